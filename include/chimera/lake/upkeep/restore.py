"""Restore a table to an earlier version, by a new commit that records who wanted it and why.

The marks of what the table has read (its source's watermark, its parents' versions) are restored
with its rows, so the next run reads again what came after. Downstream tables are recomputed whole,
because the commit names no hours (docs/adr/0002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from include.chimera.errors import CommitConflictError, ControlRefusedError
from include.chimera.lake.delta.commits import is_conflict
from include.chimera.lake.delta.lineage import consumed_mark, identity_of, metadata_of
from include.chimera.lake.delta.tables import leaving_out, open_table, table_names
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.store.durability import sync_log
from include.chimera.lake.store.storage_errors import storage_errors

if TYPE_CHECKING:
    from collections.abc import Mapping


def restore_table(name: str, version: int, notes: Mapping[str, str]) -> int:
    """Restore a table's rows and marks to a version; return the new version.

    Args:
        name: `<layer>.<table>`.
        version: The version to restore.
        notes: Extra commit metadata: who, and why.

    Raises:
        ControlRefusedError: There is no such table or version, or its files were vacuumed.
        CommitConflictError: Another writer committed in the meantime.
        LakeError: The lake can't be read or written.
    """
    table = open_table(name)
    newest = -1 if table is None else table.version()
    if table is None or not 0 <= version < newest:
        raise ControlRefusedError(
            expected=f"a version from 0 to {newest - 1}" if newest > 0 else "a table of versions",
            came=str(version),
            where=f"table {name}, now at version {newest}",
            remedy="pick a version: the alerts and `trace` name them, so does the table's history",
        )
    with storage_errors(f"restoring {name}"):
        try:
            marks = _marks_at(table, version)
            table.restore(
                version,
                commit_properties=CommitProperties(
                    custom_metadata={**metadata_of(None, None), **notes},
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
            raise ControlRefusedError(
                expected="a version whose log and files are kept",
                came=type(error).__name__,
                where=f"table {name}, version {version}",
                remedy="take a newer version: the vacuum removes older ones' files",
            ) from None
    table.update_incremental()
    sync_log(table.table_uri, newest, table.version())
    return table.version()


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
