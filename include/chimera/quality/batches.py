"""A gate's inputs: the staged files, the run's window, and the keys of other tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.lake.delta.partitions import Partitions
from include.chimera.lake.delta.scans import open_readable, read_files_as_they_are, scan
from include.chimera.lake.publish.model_builds import DAY_PARTITION, staged_columns
from include.chimera.lake.staged.manifests import Batch, Build, attempt_folder, find_manifest
from include.chimera.lake.store.duckdb_sessions import among, identifier, quote
from include.chimera.lake.store.places import folder_of
from include.chimera.quality.outliers import limits
from include.chimera.quality.row_differences import RowDifference, compare_rows
from include.chimera.quality.rules.kinds import keys_relation
from include.chimera.settings import get_settings
from include.chimera.window import hour_label

_AT_ONCE = 4  # look-ups that wait for an object store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from include.chimera.quality.rules.book import RuleBook
    from include.chimera.window import Run


def staged_rows(run: Run, staged: Batch | Build) -> str:
    """Return a query of the rows that the run staged, with whatever columns the files have."""
    paths = [file.path for file in staged.files]
    if isinstance(staged, Build):
        return read_files_as_they_are(folder_of(staged.table), paths, staged_columns(staged))
    schema = CONTRACTS[staged.table].schema
    return read_files_as_they_are(attempt_folder(run, staged), paths, schema)


def window_and_keys(
    book: RuleBook, run: Run, staged: Batch | Build, lake: DuckDBPyConnection
) -> Callable[[DuckDBPyConnection], None]:
    """Return a function that creates the relations that rules may use.

    `run` has one row, with the run's window. `usual` holds the limits of `usual` rules (see
    `outliers`). `closed` counts keys of earlier hours for a `closed_hours` rule. A `keys_…`
    relation holds the keys of a table's live version and of what this run has staged for it, so
    that neither table's gate waits for the other's. It is empty if the table does not exist yet;
    then no row breaks `refers_to`.

    Args:
        book: The table's rules.
        run: The DAG run.
        staged: What the run staged for the table.
        lake: A session that reads the lake's tables; any session will do for a book that neither
            refers to tables nor watches values.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        usual_limits = pool.submit(limits, book, run, lake.cursor())
        found = {
            keys_relation(table, key): pool.submit(_known_keys, lake.cursor(), run, table, key)
            for table, key in book.references()
        }
        keys = {name: rows.result() for name, rows in found.items()}
        usual = [list(limit) for limit in usual_limits.result()]
    closed_keys = _closed_keys(book, run, staged)
    window = (
        f"select timestamptz {quote(run.window.start.isoformat())} as window_start, "
        f"timestamptz {quote(run.window.end.isoformat())} as window_end, "
        f"{staged.rows_unparsed} as rows_unparsed"
    )

    def create(connection: DuckDBPyConnection) -> None:
        connection.execute(f"create table run as {window}")
        connection.execute("create table closed (key_count bigint, changed_count bigint)")
        connection.execute("insert into closed values (?, ?)", closed_keys)
        connection.execute("create table usual (rule_id varchar, upper double)")
        if usual:
            connection.executemany("insert into usual values (?, ?)", usual)
        for name, rows in keys.items():
            connection.register("known_keys", rows)
            connection.execute(f"create table {name} as from known_keys")
            connection.unregister("known_keys")

    return create


def _known_keys(lake: DuckDBPyConnection, run: Run, table: str, key: str) -> pa.Table:
    """Return the distinct keys of another table, as one column."""
    column, sources = identifier(key), []
    live = open_readable(table)
    if live is not None:
        sources.append(f"select {column} from ({scan(live, table)})")
    staged = find_manifest(run, table)
    # A model's rows are live by now, but in a preview, which reads what is published.
    if isinstance(staged, Batch) or (staged and get_settings().published):
        sources.append(f"select {column} from ({staged_rows(run, staged)})")
    union = " union all ".join(sources) or f"select cast(null as varchar) as {column} where false"
    return lake.execute(
        f"select distinct {column} from ({union}) where {column} is not null"
    ).to_arrow_table()


def staged_difference(
    table: str, run: Run, public: Collection[str] | None = None
) -> RowDifference | None:
    """Compare what a run staged with the live version; None: the run staged nothing.

    Args:
        table: `<layer>.<table>`.
        run: The run.
        public: The columns whose values examples may show; None: there are no examples.

    Raises:
        LakeError: The staged files or the table can't be read.
    """
    staged = find_manifest(run, table)
    if staged is None:
        return None
    live, scope = open_readable(table), ""
    if isinstance(staged, Batch):
        is_by_hour = CONTRACTS[table].kind == "events" and not staged.is_addition
        scope = among(PARTITION, staged.hours) if is_by_hour else ""
    elif isinstance(staged.replaced, Partitions):
        scope = among(staged.replaced.column, staged.replaced.values)
    return compare_rows(table, staged_rows(run, staged), live, scope, public)


def _closed_keys(book: RuleBook, run: Run, staged: Batch | Build) -> tuple[int, int]:
    """Count the keys of hours or days before the run's that a build replaces, and the changed."""
    if not book.watches_closed_hours or not isinstance(staged, Build):
        return 0, 0
    (column,) = staged.partition_by or ("",)
    lengths = {PARTITION: len("YYYYMMDDTHH"), DAY_PARTITION: len("YYYYMMDD")}
    first = hour_label(run.window.start)[: lengths.get(column, 0)]
    scope = f"{identifier(column)} < {quote(first)}"
    if isinstance(staged.replaced, Partitions):
        scope = among(column, [value for value in staged.replaced.values if value < first])
    live = open_readable(book.table)
    if not first or scope == "false" or live is None:
        return 0, 0
    rows = f"select * from ({staged_rows(run, staged)}) where {scope}"
    found = compare_rows(book.table, rows, live, scope)
    changed = found.changed + found.removed
    return found.same + changed, changed
