"""Every version of every table that a test wrote: readable by all, and none that lost its rows.

A version that can't be opened, in which readers disagree, or that holds fewer rows than both of its
neighbours (an emptied table between two full ones) fails the test that wrote it.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from include.chimera.lake.store.duckdb_sessions import connect, identifier
from include.chimera.lake.store.places import folder_of

# Reading a version costs some 10 ms, and 3 ms for each of its files: a test that writes more
# than this is not about versions, and its newest ones are looked at.
MOST_VERSIONS, MOST_FILES = 40, 1_000
MOST_ROWS = 20_000
_CONNECTION = []


def _reader():
    """Return one session for the whole ring: to load the extension takes longer than to read."""
    if not _CONNECTION:
        _CONNECTION.append(connect())
    return _CONNECTION[0]


def rows_of_version(name: str, version: int, columns: str = "*") -> list[tuple]:
    """Return a version's rows, sorted."""
    place = folder_of(name)
    query = f"select {columns} from delta_scan('{place}', version => {version}) order by all"
    return _reader().execute(query).fetchall()


class Versions:
    """The lakes of a test, whose versions are looked at when it ends.

    Attributes:
        may_shrink: Tables, `<schema>.<table>`, of which a test says that a version lost rows.
        are_checked: False where the test damages a log on purpose.
    """

    def __init__(self) -> None:
        self.lakes: list[Path] = []
        self.may_shrink: set[str] = set()
        self.are_checked = True

    def add(self, lake: Path) -> None:
        self.lakes.append(Path(lake))

    def check(self) -> None:
        for lake in self.lakes if self.are_checked else ():
            for log in sorted(lake.glob("*/*/_delta_log")):
                name = f"{log.parents[1].name}.{log.parent.name}"
                if any(log.iterdir()):
                    self._check_table(name, str(log.parent))

    def _check_table(self, name: str, place: str) -> None:
        newest = DeltaTable(place)
        most = min(MOST_VERSIONS, max(2, MOST_FILES // max(1, len(newest.file_uris()))))
        first = max(0, newest.version() + 1 - most)
        names = [entry.name for entry in (Path(place) / "_delta_log").iterdir()]
        first = max(first, min(int(entry[:20]) for entry in names if entry[:20].isdigit()))
        counts = [check_version(place, version) for version in range(first, newest.version() + 1)]
        if name not in self.may_shrink:
            check_counts(name, counts, first)


def check_counts(name: str, counts: list[int], first: int = 0) -> None:
    """Refuse a version with fewer rows than the smaller of its neighbours."""
    for number in range(1, len(counts) - 1):
        before, count, after = counts[number - 1 : number + 2]
        assert count >= min(before, after), (
            f"{name}, version {first + number}: {count} rows between {before} and {after}"
        )


def check_version(place: str, version: int) -> int:
    """Open a version with each reader, compare its rows where they are few, and count them."""
    import polars as pl  # noqa: PLC0415 - heavy, and most unit tests write no table

    table = DeltaTable(place, version=version)
    relation = f"delta_scan('{place}', version => {version})"
    (count,) = _reader().execute(f"select count(*) from {relation}").fetchone()
    frame = pl.scan_delta(place, version=version)
    assert frame.select(pl.len()).collect().item() == count, (place, version, "polars")
    stated = sum(pa.table(table.get_add_actions())["num_records"].to_pylist())
    assert stated == count, (place, version, "the log's statistics")
    if count <= MOST_ROWS:
        query = QueryBuilder().register("rows", table).execute("select * from rows")
        theirs, polars = pa.table(query.read_all()), frame.collect()  # noqa: F841 - DuckDB's names
        columns = ", ".join(map(identifier, table.schema().to_arrow().names))
        for other in ("theirs", "polars"):
            for one, two in ((relation, other), (other, relation)):
                differ = f"select {columns} from {one} except all select {columns} from {two}"
                (more,) = _reader().execute(f"select count(*) from ({differ})").fetchone()
                assert more == 0, (place, version, other)
    return count
