"""What rows would change a table, or have changed it: counted by key, never shown."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS, IS_DELETED, PARTITION, ROW_HASH
from include.chimera.errors import ConfigurationError
from include.chimera.lake.delta.lineage import ARRIVED
from include.chimera.lake.delta.partitions import Partitions
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.manifests import Batch, find_manifest
from include.chimera.lake.store.duckdb_sessions import among, connect, identifier
from include.chimera.quality.batches import staged_rows
from include.chimera.quality.rules.book import rule_book

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.window import Run

_MOVED_ONLY = {"OPTIMIZE", "VACUUM START", "VACUUM END"}


@dataclass(frozen=True)
class RowDifference:
    """Rows against a version of their table.

    Args:
        table: `<layer>.<table>`.
        version: The version that they are compared with; None: there was none.
        newer: The version that they became; None: they are staged and not published.
        key: The columns that identify a row.
        added: Keys that the version lacks.
        changed: Keys that it has with another content.
        removed: Keys that it has and the rows lack, or say that they are gone.
        same: Keys with the same content.
    """

    table: str
    version: int | None
    newer: int | None
    key: tuple[str, ...]
    added: int
    changed: int
    removed: int
    same: int


def staged_difference(table: str, run: Run) -> RowDifference | None:
    """Compare what a run staged with the live version; None: the run staged nothing.

    Raises:
        LakeError: The staged files or the table can't be read.
    """
    staged = find_manifest(run, table)
    if staged is None:
        return None
    live, scope = open_table(table), ""
    if isinstance(staged, Batch):
        is_by_hour = CONTRACTS[table].kind == "events" and not staged.is_addition
        scope = among(PARTITION, staged.hours) if is_by_hour else ""
    elif isinstance(staged.replaced, Partitions):
        scope = among(staged.replaced.column, staged.replaced.values)
    return _compare(table, staged_rows(run, staged), live, scope)


def published_difference(table: str) -> RowDifference | None:
    """Compare the newest version that brought rows with the one before; None: there is none.

    Raises:
        LakeError: The table can't be read.
    """
    newest = open_table(table, has_files=False)
    history = newest.history(20) if newest else []
    entry = next((each for each in history if each["operation"] not in _MOVED_ONLY), None)
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
    return replace(_compare(table, rows, before, scope), newer=made.version())


def _compare(table: str, rows: str, live: DeltaTable | None, scope: str) -> RowDifference:
    """Compare rows with those of a version in a scope, a condition; "": all of them."""
    with connect() as session:
        return _compared(session, table, rows, (live, scope))


def _compared(
    session: DuckDBPyConnection, table: str, rows: str, before: tuple[DeltaTable | None, str]
) -> RowDifference:
    live, scope = before
    version = live.version() if live else None
    old = scan(live, table) + (f" where {scope}" if scope else "") if live else ""
    shared = set(session.sql(rows).columns)
    if old:
        shared &= set(session.sql(old).columns)
    key, contract = _key(table), CONTRACTS.get(table)
    if contract and contract.kind == "versions":
        # The table keeps each version of a row: what counts is whether it knows this one.
        counts = _versions(session, key, rows, old)
        return RowDifference(table, version, None, key, *counts)
    content = ", ".join(identifier(name) for name in sorted(shared - set(key)))
    keys = ", ".join(map(identifier, key))

    def hashed(query: str) -> str:
        return f"select hash({keys}) as k, sum(hash({content})) as c from ({query}) group by 1"

    known = hashed(old) if old else "select null::ubigint as k, null::hugeint as c where false"
    ((added, changed, removed, same),) = session.execute(
        "select count(*) filter (where o.k is null), "
        "count(*) filter (where o.k = n.k and o.c <> n.c), "
        "count(*) filter (where n.k is null), count(*) filter (where o.k = n.k and o.c = n.c) "
        f"from ({hashed(rows)}) as n full join ({known}) as o on o.k = n.k"
    ).fetchall()
    return RowDifference(table, version, None, key, added, changed, removed, same)


def _key(table: str) -> tuple[str, ...]:
    """Return the columns that identify a row, as the contract or a rule has them.

    Raises:
        ConfigurationError: Neither says so.
    """
    if table in CONTRACTS:
        return CONTRACTS[table].key
    for rule in rule_book(table).rules:
        if rule.check == "unique":
            return rule.columns
    raise ConfigurationError(
        expected=f"a rule that says what identifies a row of {table}",
        came="none with the check unique",
        where=f"include/gx/rules/{table}.yml",
        remedy="add one; then `make suites`",
    )


def _versions(
    session: DuckDBPyConnection, key: tuple[str, ...], rows: str, old: str
) -> tuple[int, int, int, int]:
    keys = ", ".join(map(identifier, key))
    told = f"select hash({keys}) as k, {ROW_HASH} as h, {IS_DELETED} as gone"
    known = f"{told} from ({old})" if old else f"{told} from ({rows}) where false"
    ((added, changed, removed, same),) = session.execute(
        f"with old as ({known}), new as (select distinct * from ({told} from ({rows}))), "
        "judged as (select k in (select k from old) as is_old, "
        "(k, h) in (select (k, h) from old) as is_known, gone from new) "
        "select count(*) filter (where not is_old), "
        "count(*) filter (where is_old and not is_known and not gone), "
        "count(*) filter (where is_old and not is_known and gone), "
        "count(*) filter (where is_known) from judged"
    ).fetchall()
    return added, changed, removed, same
