"""Verify a commit: compare the log, and the rows read back, with what was staged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.errors import VerificationError
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.checksums import Content, content_by_hour
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.store.duckdb_sessions import among

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.delta.commits import Change
    from include.chimera.window import Run

TOKEN = "attempt_token"  # noqa: S105 - a fencing token, no secret
COUNTS = ("rows_read", "rows_published", "rows_refused", "rows_duplicate")
_LOOKS = 20
_COMMITS = 500  # about a week of hours with their upkeep


def committed_counts(table: DeltaTable, name: str, token: int) -> Publication | None:
    """Return the counts and version of the attempt's own commit, None if it made none."""
    entries = (entry for entry in latest_commits(table) if entry.get(TOKEN) == str(token))
    return next((_publication(name, entry) for entry in entries), None)


def counts_by_attempt(table: DeltaTable, name: str, run: Run) -> dict[int, Publication]:
    """Return, by token, the counts and version of each commit that the run made."""
    return {
        int(entry[TOKEN]): _publication(name, entry)
        for entry in latest_commits(table)
        if TOKEN in entry and entry["run_id"] == run.run_id
    }


def latest_commits(table: DeltaTable) -> Sequence[Mapping[str, Any]]:
    """Return the metadata of the table's last commits, the newest first.

    `history()` counts versions down from its handle's, so the numbers are wrong once another writer
    has committed (measured with delta-rs 1.6.3). Retry until none has.
    """
    found: Sequence[Mapping[str, Any]] = ()
    for _ in range(_LOOKS):
        found = table.history(_COMMITS)
        newest = DeltaTable(table.table_uri, without_files=True)
        if newest.version() == table.version():
            break
        table = newest
    return found


def _publication(name: str, entry: Mapping[str, Any]) -> Publication:
    counts = {count: int(entry[count]) for count in COUNTS}
    return Publication(name, version=int(entry["version"]), token=int(entry[TOKEN]), **counts)


def verify(  # noqa: PLR0913 - the two sides of a comparison
    connection: DuckDBPyConnection,
    table: DeltaTable,
    name: str,
    *,
    token: int,
    change: Change,
    expected: Mapping[str, Content],
) -> int:
    """Compare a commit with what should have been committed; return its version.

    Args:
        connection: DuckDB session.
        table: The table after the commit, possibly with later commits by others.
        name: `<layer>.<table>`.
        token: The attempt's token, which names the commit in the history.
        change: What should have been committed.
        expected: Content of the changed hours at the commit's version.

    Raises:
        VerificationError: The history lacks the commit or its counts differ, its version lacks
            files, or its hours read back differ.
    """
    committed = committed_counts(table, name, token)
    wanted = {count: int(change.metadata[count]) for count in COUNTS}
    counts = committed and {count: getattr(committed, count) for count in COUNTS}
    if committed is None or counts != wanted:
        raise _mismatch(name, token, f"a commit with {wanted}", str(counts))
    pinned = open_table(name, committed.version)
    if pinned is None:
        raise _mismatch(name, token, f"version {committed.version}", "none")
    actions = pa.table(pinned.get_add_actions(flatten=True))
    held = dict(zip(actions["path"].to_pylist(), actions["num_records"].to_pylist(), strict=True))
    lost = [file.path for file in change.files if held.get(file.path) != file.rows]
    if lost:
        raise _mismatch(name, token, f"{len(change.files)} files", f"{len(lost)} lost or changed")
    rows = scan(pinned, name)
    if CONTRACTS[name].partition_by:
        rows = f"{rows} where {among(PARTITION, list(expected))}"
    else:
        rows = f"select *, '' as {PARTITION} from ({rows})"
    found = content_by_hour(connection, rows, CONTRACTS[name].schema.names)
    for hour, content in expected.items():
        if found.get(hour, Content()) != content:
            came = f"{found.get(hour, Content()).rows} rows or other values"
            raise _mismatch(name, token, f"{content.rows} rows in hour {hour}", came)
    return committed.version


def _mismatch(name: str, token: int, expected: str, came: str) -> VerificationError:
    return VerificationError(
        expected=expected,
        came=came,
        where=f"table {name}, attempt {token}, after its commit",
        remedy="stop the DAG; compare the table's history with the run's batch.json; the version "
        "before the commit is whole",
    )
