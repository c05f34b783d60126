"""All tables as one run left them: put back to it, or compared with another run's.

A restore goes table by table, and readers stay on the snapshot before until all are back: the
snapshot of a run names versions, which a restore of the tables leaves as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from include.chimera.errors import CommitConflictError
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.tables import table_names
from include.chimera.lake.ops_tables.consistent_snapshots import (
    PINNED_LAYERS,
    Snapshot,
    made_of_others,
    parents_of,
    publish_restored,
    published_snapshot,
    write_views,
)
from include.chimera.lake.upkeep.restore import Position, find_position, restore_table
from include.chimera.operations.insight.page import write_insight
from include.chimera.operations.manual_controls import require_stopped
from include.chimera.quality.acceptance import current_user, require_reason
from include.chimera.quality.row_differences import RowDifference, version_difference
from include.chimera.relation import Relation

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class RunPosition:
    """Where the lake's tables stand against the versions of one run.

    Args:
        snapshot: What the run published.
        tables: Its tables, each after those that it was made of.
        others: Silver and gold tables that the run did not publish, which stay as they are.
    """

    snapshot: Snapshot
    tables: tuple[Position, ...]
    others: tuple[str, ...]


def find_run_position(run: str) -> RunPosition:
    """Look where each table stands against a run, and whether all can be put back to it.

    Args:
        run: The run's id, or its correlation id.

    Raises:
        SnapshotMissingError: No such run has passed all its gates.
        ControlRefusedError: A table is gone, or its version was vacuumed; the message names it.
        LakeError: The lake can't be read.
    """
    snapshot = published_snapshot(run)
    versions = snapshot.versions
    found = {table: find_position(table, version) for table, version in versions.items()}
    graph = {table: parents_of(table, versions) for table in sorted(versions)}
    pinned = [name for name in table_names() if Relation.parse(name).schema in PINNED_LAYERS]
    return RunPosition(
        snapshot,
        tuple(found[table] for table in TopologicalSorter(graph).static_order()),
        tuple(name for name in pinned if name not in versions),
    )


def restore_run(run: str, reason: str, who: str = "") -> RunPosition:
    """Put all tables of a run back to it, then switch readers to them; return what was done.

    Nothing is changed unless all tables can be put back. Run it again after a death: tables that
    are back are left. The next run reads again what came after.

    Args:
        run: The run's id, or its correlation id.
        reason: Why, in the person's words.
        who: The person; "": the operating system's user.

    Raises:
        SnapshotMissingError: No such run has passed all its gates.
        ControlRefusedError: Publishing is not stopped, the reason is empty, or a table can't be put
            back.
        CommitConflictError: Another writer committed in the meantime.
        LakeError: The lake can't be read or written.
    """
    words, by = require_reason(reason), who or current_user()
    require_stopped(f"run {run}")
    position = find_run_position(run)
    snapshot = position.snapshot
    notes = {"restored_by": by, "restored_reason": words, "restored_run": snapshot.run_id}
    is_whole = not made_of_others(snapshot.versions)
    now = {table.table: table.newest for table in position.tables}
    for table in position.tables:
        if table.is_there:
            continue
        require_stopped(f"run {run}, before {table.table}")
        parents = parents_of(table.table, snapshot.versions) if is_whole else {}
        put_back = {name: now[name] for name in parents}
        now[table.table] = restore_table(table.table, table.wanted, notes, put_back)
        fault_point("restore.table")
    after = [find_position(table.table, table.wanted) for table in position.tables]
    if others := [table.table for table in after if not table.is_there]:
        raise CommitConflictError(
            expected=f"all tables as run {snapshot.run_id} left them",
            came="another writer's commit",
            where=", ".join(others),
            remedy="wait until no run works, and run the same command again",
        )
    shown = replace(snapshot, versions={table.table: table.newest for table in after})
    replaced = {table.table: table.replaced for table in after if table.replaced is not None}
    publish_restored(shown, replaced, by, words)
    fault_point("restore.recorded")
    write_views(shown)
    fault_point("restore.shown")
    write_insight(shown)
    return replace(position, snapshot=shown)


def differences(before: str, after: str) -> Iterator[RowDifference | str]:
    """Compare each table of two runs; yield the name of one that only one of them published.

    Args:
        before: A run's id, or its correlation id.
        after: The other's.

    Raises:
        SnapshotMissingError: One of them has not passed all its gates.
        ControlRefusedError: A table is gone, or its version was vacuumed; the message names it.
        LakeError: The lake can't be read.
    """
    old, new = (published_snapshot(run).versions for run in (before, after))
    for table in sorted({*old, *new}):
        if table not in old or table not in new:
            yield table
            continue
        yield version_difference(table, old[table], new[table])
