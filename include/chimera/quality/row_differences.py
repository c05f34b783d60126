"""How rows differ from those of a version of their table: counted by key.

No value is shown, but of columns that are public; keys only where examples are asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import CONTRACTS, IS_DELETED, ROW_HASH
from include.chimera.lake.delta.lineage import ARRIVED, NO_ROWS
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_kept, open_table, row_count
from include.chimera.lake.store.duckdb_sessions import among, connect, identifier
from include.chimera.quality.rules.book import RULES, rule_book

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection


# Whether a key was added, changed, removed or left, from its rows' hashes; without a key, how many
# equal rows were, from their counts.
_BY_KEY = (
    "o.c is null",
    "coalesce(n.c <> o.c, false)",
    "n.c is null",
    "coalesce(n.c = o.c, false)",
)
_BY_COUNT = (
    "greatest(coalesce(n.c, 0) - coalesce(o.c, 0), 0)",
    "0",
    "greatest(coalesce(o.c, 0) - coalesce(n.c, 0), 0)",
    "least(coalesce(n.c, 0), coalesce(o.c, 0))",
)
_EXAMPLES = 3


@dataclass(frozen=True)
class KeyExample:
    """One key of a difference.

    Args:
        key: The key's columns, as text.
        values: Of a changed key, the public columns that changed: their values before and after.
    """

    key: Mapping[str, str]
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RowDifference:
    """Rows against a version of their table.

    Args:
        table: `<layer>.<table>`.
        version: The version that they are compared with; None: there was none.
        newer: The version that they became; None: they are staged and not published.
        key: The columns that identify a row; (): nothing says which, so whole rows are compared, of
            which none changes.
        added: Keys that the version lacks.
        changed: Keys that it has with another content.
        removed: Keys that it has and the rows lack, or say that they are gone.
        same: Keys with the same content.
        columns: In how many of the changed keys each column changed, by column.
        partitions: Keys added, changed and removed, by value of the partition column.
        columns_added: Columns that the version lacks.
        columns_removed: Columns that it has and the rows lack.
        rows: How many rows were compared; None: they were not counted.
        rows_before: With how many of the version's; None: likewise.
        examples: Some keys that were added, changed or removed, by these words; {}: none were asked
            for, or there is no key.
    """

    table: str
    version: int | None
    newer: int | None
    key: tuple[str, ...]
    added: int
    changed: int
    removed: int
    same: int
    columns: Mapping[str, int] = field(default_factory=dict)
    partitions: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    columns_added: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()
    rows: int | None = None
    rows_before: int | None = None
    examples: Mapping[str, tuple[KeyExample, ...]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not any(
            (self.added, self.changed, self.removed, self.columns_added, self.columns_removed)
        )


def published_difference(table: str) -> RowDifference | None:
    """Compare the newest version that brought rows with the one before; None: there is none.

    Raises:
        LakeError: The table can't be read.
    """
    newest = open_table(table, has_files=False)
    history = newest.history(20) if newest else []
    entry = next((each for each in history if each["operation"] not in NO_ROWS), None)
    if entry is None or not entry["version"]:
        return None
    made, before = (open_table(table, entry["version"] - back) for back in (0, 1))
    if made is None or before is None:
        return None
    columns, scope = made.metadata().partition_columns, ""
    arrived = entry.get(ARRIVED, "*")
    if columns and arrived != "*":
        scope = among(columns[0], json.loads(arrived))
    rows = scan(made, table) + (f" where {scope}" if scope else "")
    return replace(compare_rows(table, rows, before, scope), newer=made.version())


def version_difference(table: str, before: int, after: int) -> RowDifference:
    """Compare two versions of a table, reading only the partitions whose files differ.

    Raises:
        ControlRefusedError: One of them is not there, or was vacuumed.
        LakeError: The table can't be read.
    """
    old, new = open_kept(table, before), open_kept(table, after)
    scope = _differing(old, new)
    rows = scan(new, table) + (f" where {scope}" if scope else "")
    found = compare_rows(table, rows, old, scope)
    count = row_count(new)
    same = count - found.added - found.changed
    return replace(found, newer=after, same=same, rows=count, rows_before=row_count(old))


def _differing(old: DeltaTable, new: DeltaTable) -> str:
    """Return a condition of the partitions whose files differ; "": of all rows."""
    kept, names = old.metadata().partition_columns, new.metadata().partition_columns
    files = []
    for table in (old, new):
        actions = pa.table(table.get_add_actions(flatten=True))
        columns = [f"partition.{name}" for name in table.metadata().partition_columns]
        files.append(
            {tuple(row.values()) for row in actions.select(["path", *columns]).to_pylist()}
        )
    differ = files[0] ^ files[1]
    if not differ:
        return "false"
    if kept != names or len(names) != 1 or not all(type(value) is str for _, value in differ):
        return ""
    return among(names[0], sorted({value for _, value in differ}))


def compare_rows(
    table: str,
    rows: str,
    live: DeltaTable | None,
    scope: str,
    public: Collection[str] | None = None,
) -> RowDifference:
    """Compare rows with those of a version of their table.

    Args:
        table: `<layer>.<table>`.
        rows: Query of the rows.
        live: The version; None: there is none.
        scope: A condition of the version's rows that count; "": all of them do.
        public: The columns whose values examples may show; None: there are no examples.
    """
    key, contract = _key(table), CONTRACTS.get(table)
    old = scan(live, table) + (f" where {scope}" if scope else "") if live else ""
    with connect() as session:
        made = session.sql(rows)
        news = made.columns
        olds = session.sql(old).columns if old else news
        empty = RowDifference(
            table,
            live.version() if live else None,
            None,
            key,
            *(0, 0, 0, 0),
            columns_added=tuple(name for name in news if name not in olds),
            columns_removed=tuple(name for name in olds if name not in news),
        )
        old = old or f"select * from ({rows}) where false"
        if contract and contract.kind == "versions":
            # The table keeps each version of a row: what counts is whether it knows this one.
            return _versions(session, empty, rows, old)
        kinds = dict(zip(news, made.types, strict=True))
        shared = {name: _content(name, str(kinds[name])) for name in news if name in olds}
        parts = live.metadata().partition_columns if live else []
        found = _compared(session, empty, (rows, old), shared, parts[0] if parts else "")
        if public is None or not key:
            return found
        shown = [name for name in shared if name in public and name not in key]
        return replace(found, examples=_examples(session, found, (rows, old), shown))


def _content(column: str, kind: str) -> str:
    """Return what of a column is compared.

    A sum of doubles has other last digits each time that it is computed, which is no change.
    """
    name = identifier(column)
    return f"try_cast({name} as real)" if kind == "DOUBLE" else name


def _compared(
    session: DuckDBPyConnection,
    empty: RowDifference,
    queries: tuple[str, str],
    columns: Mapping[str, str],
    partition: str,
) -> RowDifference:
    """Compare new rows with old ones by the hashes of their keys and of their columns."""
    key = empty.key
    contents = ", ".join(columns.values())
    hashed = _hashed(key) if key else f"hash({contents})"
    content = f"sum(hash({contents}))" if key else "count(*)"
    part = f"cast(any_value({identifier(partition)}) as varchar)" if partition else "''"
    new, old = (
        f"select {hashed} as k, {content} as c, {part} as p, count(*) as n "
        f"from ({query}) group by 1"
        for query in queries
    )
    added, changed, removed, same = _BY_KEY if key else _BY_COUNT
    session.execute(
        f"create temp table judged as select k, coalesce(n.p, o.p) as p, cast({added} as bigint) "
        f"as added, cast({changed} as bigint) as changed, cast({removed} as bigint) as removed, "
        f"cast({same} as bigint) as same, coalesce(n.n, 0) as news, coalesce(o.n, 0) as olds "
        f"from ({new}) as n full join ({old}) as o using (k)"
    )
    counts = ("added", "changed", "removed", "same", "news", "olds")
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in counts)
    rows = session.execute(f"select p, {sums} from judged group by p order by p").fetchall()
    parts = {str(value): (int(a), int(c), int(r)) for value, a, c, r, *_ in rows}
    totals = [sum(int(row[place]) for row in rows) for place in range(1, 7)]
    found = replace(
        empty,
        added=totals[0],
        changed=totals[1],
        removed=totals[2],
        same=totals[3],
        rows=totals[4],
        rows_before=totals[5],
        partitions={value: counts for value, counts in parts.items() if partition and any(counts)},
    )
    others = [name for name in columns if name not in key]
    if not found.changed or not others:
        return found
    each = ", ".join(f"sum(hash({columns[name]})) as c{n}" for n, name in enumerate(others))
    new, old = (
        f"select {hashed} as k, {each} from ({query}) "
        f"where {hashed} in (select k from judged where changed > 0) group by 1"
        for query in queries
    )
    differ = ", ".join(f"count(*) filter (where n.c{n} <> o.c{n})" for n in range(len(others)))
    (counts,) = session.execute(
        f"select {differ} from ({new}) as n join ({old}) as o using (k)"
    ).fetchall()
    pairs = zip(others, counts, strict=True)
    return replace(found, columns={name: int(count) for name, count in pairs if count})


def _hashed(columns: Sequence[str]) -> str:
    return f"hash({', '.join(map(identifier, columns))})"


def _examples(
    session: DuckDBPyConnection,
    found: RowDifference,
    queries: tuple[str, str],
    public: Sequence[str],
) -> dict[str, tuple[KeyExample, ...]]:
    """Return the first keys, by their hashes, of each kind of difference that was judged."""
    examples = {}
    texts = ", ".join(
        f"first(cast({identifier(name)} as varchar))" for name in (*found.key, *public)
    )
    hashed = _hashed(found.key)
    for word in ("added", "changed", "removed"):
        chosen = f"select k from judged where {word} > 0 order by k limit {_EXAMPLES}"
        new, old = (
            session.execute(
                f"select {hashed}, {texts} from ({query}) where {hashed} in ({chosen}) "
                "group by 1 order by 1"
            ).fetchall()
            for query in queries
        )
        before = {k: texts for k, *texts in old}
        pairs = [(after, before.get(k, after)) for k, *after in new or old]
        examples[word] = tuple(_example(found.key, public, *pair) for pair in pairs)
    return {word: keys for word, keys in examples.items() if keys}


def _example(
    key: Sequence[str], public: Sequence[str], after: Sequence[str], before: Sequence[str]
) -> KeyExample:
    pairs = zip(public, before[len(key) :], after[len(key) :], strict=True)
    return KeyExample(
        {name: str(text) for name, text in zip(key, after, strict=False)},
        {name: (str(was), str(now)) for name, was, now in pairs if was != now},
    )


def _key(table: str) -> tuple[str, ...]:
    """Return the columns that identify a row, as the contract or a rule has them; (): none do."""
    if table in CONTRACTS:
        return CONTRACTS[table].key
    if not (RULES / f"{table}.yml").is_file():  # a model that is gone
        return ()
    unique = (rule.columns for rule in rule_book(table).rules if rule.check == "unique")
    return next(unique, ())


def _versions(
    session: DuckDBPyConnection, empty: RowDifference, rows: str, old: str
) -> RowDifference:
    keys = ", ".join(map(identifier, empty.key))
    told = f"select hash({keys}) as k, {ROW_HASH} as h, {IS_DELETED} as gone"
    ((added, changed, removed, same),) = session.execute(
        f"with old as ({told} from ({old})), "
        f"new as (select distinct * from ({told} from ({rows}))), "
        "judged as (select k in (select k from old) as is_old, "
        "(k, h) in (select (k, h) from old) as is_known, gone from new) "
        "select count(*) filter (where not is_old), "
        "count(*) filter (where is_old and not is_known and not gone), "
        "count(*) filter (where is_old and not is_known and gone), "
        "count(*) filter (where is_known) from judged"
    ).fetchall()
    return replace(empty, added=added, changed=changed, removed=removed, same=same)
