"""Where a row came from: version, commit, run, dbt invocation, window, parents, source.

The answer is in the Delta logs: the entry that added the row's data file also holds the commit's
metadata and the versions of the parents that were read (docs/adr/0002).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from include.chimera.errors import TerminalError
from include.chimera.lake.delta.lineage import consumed_parent
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect, identifier, quote
from include.chimera.lake.store.places import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

# Sets of columns, each of which identifies a row in any table that has all of them.
_IDENTITIES = (
    {"generation_id"}, {"evaluation_id"}, {"_file", "_offset"}, {"log_line_id"},
    {"series_id", "sampled_at"},
)  # fmt: skip
_TOLD = (
    "operation", "run_id", "correlation_id", "window", "invocation_id", "model", "attempt_token",
    "rows_read", "rows_published", "rows_refused", "rows_duplicate", "accepted_by",
    "parked_by", "erased_by", "restored_by",
)  # fmt: skip
_VERSION = re.compile(r"(\d{20})\.json$")


@dataclass(frozen=True)
class Origin:
    """The origin of one row of a table.

    Args:
        table: `<layer>.<table>`.
        file: The data file that holds the row, relative to the table's folder.
        version: The version whose commit wrote the row; None: the log no longer has it.
        commit: That commit's metadata: run, correlation id, window, dbt invocation, counts.
        key: The row's identifying columns; for a log line, its file and the offset there.
        parents: For a model, each table that was read, and its version.
        made_from: The origins of the rows with the same key in the parents, at those versions.
    """

    table: str
    file: str
    version: int | None
    commit: dict[str, str] = field(default_factory=dict)
    key: dict[str, str] = field(default_factory=dict)
    parents: dict[str, int] = field(default_factory=dict)
    made_from: list[Origin] = field(default_factory=list)


def trace(name: str, where: str, limit: int = 3, version: int | None = None) -> list[Origin]:
    """Return the origins of the rows that match a condition.

    Args:
        name: `<layer>.<table>`.
        where: A DuckDB condition on the table's columns.
        limit: Maximum number of rows.
        version: The table's version; None: the newest.

    Raises:
        TerminalError: There is no such table, or the condition is invalid.
    """
    table = open_table(name, version)
    if table is None:
        raise TerminalError(
            expected="a table of the lake",
            came="none of that name",
            where=name if version is None else f"{name}, version {version}",
            remedy="name one as <layer>.<table>",
        )
    return [_origin(name, file, key) for file, key in _rows(name, table, where, limit)]


def _origin(name: str, file: str, key: dict[str, str]) -> Origin:
    version, commit, marks = _commit_of(name, file)
    # A compaction only moved the row: look for its writer in the version before.
    while version and commit.get("operation") == "OPTIMIZE":
        before = open_table(name, version - 1)
        rows = _rows(name, before, _same(key), 1) if before and key else []
        if not rows:
            break
        file = rows[0][0]
        version, commit, marks = _commit_of(name, file)
    made_from = [
        origin
        for parent, read in marks.items()
        if read >= 0 and (shared := _shared(key, parent, read))
        for origin in trace(parent, _same(shared), 1, read)
    ]
    told = {part: commit[part] for part in _TOLD if part in commit}
    if "timestamp" in commit:
        told["committed_at"] = datetime.fromtimestamp(commit["timestamp"] / 1e3, UTC).isoformat()
    return Origin(name, file, version, told, key, marks, made_from)


def _rows(name: str, table: DeltaTable, where: str, limit: int) -> list[tuple[str, dict[str, str]]]:
    columns = [field.name for field in table.schema().fields]
    key = set().union(*(known for known in _IDENTITIES if known <= set(columns)))
    shown = "".join(f", cast({identifier(column)} as text)" for column in sorted(key))
    query = scan(table, name).replace("*", "*, filename as _path", 1)
    try:
        with connect() as connection:
            found = connection.execute(
                f"select _path{shown} from ({query}) where {where} limit {limit}"
            ).fetchall()
    except duckdb.Error as error:
        raise TerminalError(
            expected="a DuckDB condition on the table's columns",
            came=type(error).__name__,
            where=name,
            remedy=f"its columns are {', '.join(columns)}",
        ) from error
    paths = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    return [
        (
            next((known for known in paths if path.endswith(known)), path),
            dict(zip(sorted(key), values, strict=True)),
        )
        for path, *values in found
    ]


def _same(key: dict[str, str]) -> str:
    pairs = (f"cast({identifier(name)} as text) = {quote(value)}" for name, value in key.items())
    return " and ".join(pairs)


def _shared(key: dict[str, str], parent: str, version: int) -> dict[str, str]:
    """Return the part of a row's key that also identifies it in a parent, empty if none does."""
    table = open_table(parent, version)
    columns = {field.name for field in table.schema().fields} if table else set()
    known = next((known for known in _IDENTITIES if known <= columns & key.keys()), set())
    return {name: key[name] for name in sorted(known)}


def _commit_of(name: str, file: str) -> tuple[int | None, Mapping[str, Any], dict[str, int]]:
    """Return the version, metadata and parents' versions of the log entry that added a file."""
    log = f"read_ndjson_objects({quote(folder_of(name) + '/_delta_log/*.json')}, filename = true)"
    added = f"json_extract_string(json, '$.add.path') = {quote(file)}"
    with connect() as connection:
        lines = connection.execute(
            f"select filename, json from {log} where filename = "
            f"(select min(filename) from {log} where {added})"
        ).fetchall()
    found = _VERSION.search(lines[0][0]) if lines else None
    entries = [json.loads(line) for _, line in lines]
    commits = (entry["commitInfo"] for entry in entries if "commitInfo" in entry)
    commit: Mapping[str, Any] = next(commits, {})
    marks = [entry["txn"] for entry in entries if "txn" in entry]
    parents = {
        parent: mark["version"] for mark in marks if (parent := consumed_parent(mark["appId"]))
    }
    return (int(found[1]) if found else None), commit, parents
