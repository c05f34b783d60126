"""Consistent snapshots: which versions of the silver and gold tables one run committed together.

Each table advances by itself as soon as its own gate passes. A reader who joins several of them
needs versions that belong together: `ops.published_versions` records them by run, and `views.sql`
pins a DuckDB session to the newest ones.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.contracts import PARTITION, PUBLISHED_VERSIONS
from include.chimera.errors import SnapshotMissingError
from include.chimera.lake.delta.lineage import (
    changes_since,
    consumed_mark,
    identity_of,
    name_of,
    read_since,
)
from include.chimera.lake.delta.scans import pinning_views, scan, views_place
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, quote
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.relation import Relation
from include.chimera.window import Run, Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from include.chimera.lake.staged.publications import Publication
    from include.chimera.lake.staged.verdicts import Verdict

logger = logging.getLogger(__name__)
PINNED_LAYERS = ("silver", "gold")
_LOOK_BACK = 10  # commits of a table; more never overlap, for at most a few runs go on at once


@dataclass(frozen=True)
class Snapshot:
    """The versions that one run committed together.

    Args:
        run_id: The run.
        versions: Version by `<layer>.<table>`.
        window: The hours that the run was for.
    """

    run_id: str
    versions: dict[str, int]
    window: Window

    def views(self) -> str:
        """Return a DuckDB script that loads `delta` and creates a view of each pinned table."""
        return pinning_views(f"The tables as run {self.run_id} left them.", self.versions)


def publish_versions(
    run: Run,
    gated: Collection[str],
    published: Mapping[str, Publication],
    verdicts: Mapping[str, Verdict],
) -> int:
    """Append the run's versions, if they belong together; return how many.

    They do if each gated table's gate let its rows through, and no run that went on beside this one
    changed a table before another of this run was made of it.

    Args:
        run: The run.
        gated: All tables that have a gate; nothing is recorded unless all of them passed.
        published: What the run committed, by table.
        verdicts: Its gates' verdicts, by table.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
    """
    passed = {table for table, verdict in verdicts.items() if verdict.success}
    if not gated or not set(gated) <= passed & set(published):
        return 0
    versions = {
        table: publication.version
        for table, publication in published.items()
        if Relation.parse(table).schema in PINNED_LAYERS
    }
    if mixed := made_of_others(versions):
        names = ", ".join(mixed)
        logger.warning("no snapshot: other runs changed what these are made of: %s", names)
        return 0
    rows = [
        _row(run, table, version, verdicts[table].validated_at)
        for table, version in versions.items()
    ]
    return append_rows(PUBLISHED_VERSIONS, rows, run)


def _row(run: Run, table: str, version: int, now: datetime) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "table_name": table,
        "table_version": version,
        "window_start": run.window.start,
        "window_end": run.window.end,
        "recorded_at": now,
        PARTITION: hour_label(run.window.start),
    }


def made_of_others(versions: Mapping[str, int]) -> list[str]:
    """Return the tables that were made of other rows than those pinned beside them, sorted.

    Args:
        versions: Version by `<layer>.<table>`.

    Raises:
        LakeError: A table can't be read.
    """
    tables = sorted(versions)
    found = storage.at_once(lambda table: _is_made_of_others(table, versions), tables)
    return [table for table, is_mixed in zip(tables, found, strict=True) if is_mixed]


def parents_of(table: str, versions: Mapping[str, int]) -> dict[str, int]:
    """Return the newest version that a pinned table read of each other pinned one.

    Args:
        table: `<layer>.<table>`.
        versions: Version by `<layer>.<table>`.

    Raises:
        LakeError: A table can't be read.
    """
    child = open_table(table, versions[table], has_files=False)
    read = read_since(child, max(-1, child.version() - _LOOK_BACK)) if child else {}
    names = {Relation.parse(name).key: name for name in versions if name != table}
    newest = {name_of(identity): seen for identity, seen in read.items()}
    return {name: newest[key] for key, name in names.items() if key in newest}


def _is_made_of_others(table: str, versions: Mapping[str, int]) -> bool:
    child = open_table(table, versions[table], has_files=False)
    for name, seen in parents_of(table, versions).items():
        parent = open_table(name, max(seen, versions[name]), has_files=False)
        if child is None or parent is None:
            return True
        # A commit that left out hours, to a newer build, has read more than its mark says.
        mark = child.transaction_version(consumed_mark(identity_of(name, parent)))
        oldest = min(versions[name], seen if mark is None else mark)
        if changes_since(parent, oldest).touched != frozenset():
            return True
    return False


def publish_restored(snapshot: Snapshot, replaced: Mapping[str, int], by: str, reason: str) -> None:
    """Append the versions that a person put back, as the run's own.

    Args:
        snapshot: The run's, with the versions that have its rows now.
        replaced: The version that stood before, by table that was put back.
        by: Who did it.
        reason: Why.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
    """
    run, now = Run(snapshot.run_id, snapshot.window), datetime.now(UTC)
    notes = {"restored_by": by, "restored_reason": reason}
    rows = [
        {**_row(run, table, version, now), **notes, "replaced_version": replaced.get(table)}
        for table, version in snapshot.versions.items()
    ]
    append_rows(PUBLISHED_VERSIONS, rows, run)


def published_snapshot(run: str | None = None) -> Snapshot:
    """Return the versions that a run committed together.

    Args:
        run: The run's id, or its correlation id; None: the last recorded one.

    Raises:
        SnapshotMissingError: No such run has passed all its gates.
    """
    table = open_table(PUBLISHED_VERSIONS.name)
    rows: list[tuple[str, str, int, datetime, datetime]] = []
    if table is not None:
        chosen = f"{quote(run)} in (run_id, correlation_id)" if run else "true"
        with connect() as connection:
            rows = connection.execute(
                f"with versions as ({scan(table, PUBLISHED_VERSIONS.name)} where {chosen}) "
                "select run_id, table_name, max(table_version), min(window_start), max(window_end) "
                "from versions where run_id = (select arg_max(run_id, recorded_at) from versions) "
                "group by all"
            ).fetchall()
    if not rows:
        raise SnapshotMissingError(
            expected=f"versions of the run {run}" if run else "a published snapshot",
            came="none",
            where=PUBLISHED_VERSIONS.name,
        )
    run_id, _, _, start, end = rows[0]
    return Snapshot(run_id, {name: version for _, name, version, *_ in rows}, Window(start, end))


def write_views(snapshot: Snapshot, path: Path | None = None) -> str:
    """Write the snapshot's views as a DuckDB script, atomically; return its place.

    Args:
        snapshot: The versions to pin.
        path: The file; None: `views.sql` beside the lake's layers, which readers open.
    """
    place = str(path.absolute()) if path else views_place()
    with storage_errors("writing the views of a snapshot"):
        storage.write_text(place, snapshot.views())
    return place
