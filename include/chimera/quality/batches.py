"""A gate's inputs: the staged files, the run's window, and the keys of other tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS
from include.chimera.lake.delta.scans import open_readable, read_files_as_they_are, scan
from include.chimera.lake.publish.model_builds import staged_columns
from include.chimera.lake.staged.manifests import Batch, Build, attempt_folder, find_manifest
from include.chimera.lake.store.duckdb_sessions import identifier, quote
from include.chimera.lake.store.places import folder_of
from include.chimera.quality.outliers import limits
from include.chimera.quality.rules.kinds import keys_relation
from include.chimera.settings import get_settings

_AT_ONCE = 4  # look-ups that wait for an object store

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Return a function that creates the relations that rules may use: `run`, `usual`, `keys_…`.

    `usual` holds the limits of `usual` rules (see `outliers`). A `keys_…` relation holds the
    keys of a table's live version and of what this run has staged for it, so that neither table's
    gate waits for the other's. It is empty if the table does not exist yet; then no row breaks
    `refers_to`.

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
    window = (
        f"select timestamptz {quote(run.window.start.isoformat())} as window_start, "
        f"timestamptz {quote(run.window.end.isoformat())} as window_end, "
        f"{staged.rows_unparsed} as rows_unparsed"
    )

    def create(connection: DuckDBPyConnection) -> None:
        connection.execute(f"create table run as {window}")
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
