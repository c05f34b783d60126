"""Restore a table to an earlier version, by a new commit that records who wanted it and why.

The marks of what the table has read (its source's watermark, its parents' versions) are restored
with its rows, so the next run reads again what came after. Downstream tables are recomputed whole,
because the commit names no hours (docs/adr/0002).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from include.chimera.errors import CommitConflictError
from include.chimera.lake.delta.commits import is_conflict
from include.chimera.lake.delta.lineage import NO_ROWS, consumed_mark, identity_of, metadata_of
from include.chimera.lake.delta.tables import (
    leaving_out,
    no_such_version,
    open_kept,
    open_table,
    table_names,
    vacuumed,
)
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.store.durability import sync_log
from include.chimera.lake.store.storage_errors import storage_errors

if TYPE_CHECKING:
    from collections.abc import Mapping


_RESTORED_TO = "restored_to"


@dataclass(frozen=True)
class Position:
    """Where a table stands against one of its versions.

    Args:
        table: `<layer>.<table>`.
        wanted: The version whose rows are wanted.
        newest: The table's newest version.
        replaced: The version that a restore replaces, or has replaced; None: there is none.
        is_there: Whether the newest version has the wanted rows.
    """

    table: str
    wanted: int
    newest: int
    replaced: int | None
    is_there: bool


def find_position(name: str, wanted: int) -> Position:
    """Look whether a table has the rows of a version, and whether it can have them again.

    Raises:
        ControlRefusedError: There is no such table or version, or its log or files were vacuumed.
        LakeError: The lake can't be read.
    """
    table = open_table(name, has_files=False)
    newest = -1 if table is None else table.version()
    if table is None or not 0 <= wanted <= newest:
        raise no_such_version(name, wanted, newest)
    with storage_errors(f"looking at the versions of {name}"):
        since = table.history(newest - wanted) if newest > wanted else []
    last = next((each for each in since if each["operation"] not in NO_ROWS), None)
    is_there = last is None or last.get(_RESTORED_TO) == str(wanted)
    open_kept(name, newest if is_there else wanted)
    replaced = newest if not is_there else last["version"] - 1 if last else None
    return Position(name, wanted, newest, replaced, is_there)


def restore_table(
    name: str,
    version: int,
    notes: Mapping[str, str],
    put_back: Mapping[str, int] | None = None,
) -> int:
    """Restore a table's rows and marks to a version; return the new version.

    Args:
        name: `<layer>.<table>`.
        version: The version to restore.
        notes: Extra commit metadata: who, and why.
        put_back: Tables that were put back before, with their versions now: these have the rows
            that this one was made of, so it counts as made of them. Otherwise it is built whole.

    Raises:
        ControlRefusedError: There is no such table or version, or its files were vacuumed.
        CommitConflictError: Another writer committed in the meantime.
        LakeError: The lake can't be read or written.
    """
    table = open_table(name)
    newest = -1 if table is None else table.version()
    if table is None or not 0 <= version < newest:
        raise no_such_version(name, version, newest)
    with storage_errors(f"restoring {name}"):
        try:
            marks = _marks_at(table, version) | _marks_of(put_back or {})
            table.restore(
                version,
                commit_properties=CommitProperties(
                    custom_metadata={
                        **metadata_of(None, None),
                        **notes,
                        _RESTORED_TO: str(version),
                    },
                    app_transactions=[Transaction(*mark) for mark in marks.items()],
                ),
            )
        except CommitFailedError as error:
            if not is_conflict(error):
                raise
            raise CommitConflictError(
                expected=f"version {newest} to be the table's newest",
                came="another writer's commit",
                where=f"table {name}",
                remedy="wait until no run works on the table, and try again",
            ) from None
        except DeltaError as error:
            raise vacuumed(name, version, type(error).__name__) from None
    table.update_incremental()
    sync_log(table.table_uri, newest, table.version())
    return table.version()


def _marks_of(versions: Mapping[str, int]) -> dict[str, int]:
    parents = {name: open_table(name, has_files=False) for name in versions}
    return {
        consumed_mark(identity_of(name, parent)): versions[name]
        for name, parent in parents.items()
        if parent
    }


def _marks_at(table: DeltaTable, version: int) -> dict[str, int]:
    """Return the marks to set so that nothing read after a version counts as read."""
    before = DeltaTable(table.table_uri, version=version, without_files=True)
    parents = {}
    for name in table_names():
        with leaving_out(name):
            parents[name] = open_table(name, has_files=False)
    identities = [identity_of(name, parent) for name, parent in parents.items() if parent]
    firsts = {WATERMARK: 0, **{consumed_mark(identity): -1 for identity in identities}}
    marks = {}
    for mark, first in firsts.items():
        now, then = table.transaction_version(mark), before.transaction_version(mark)
        if now is not None and now != then:
            marks[mark] = first if then is None else then
    return marks
