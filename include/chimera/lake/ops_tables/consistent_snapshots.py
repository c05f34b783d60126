"""Consistent snapshots: which versions of the silver and gold tables one run committed together.

Each table advances by itself as soon as its own gate passes. A reader who joins several of them
needs versions that belong together: `ops.published_versions` records them by run, and `views.sql`
pins a DuckDB session to the newest ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.contracts import PUBLISHED_VERSIONS
from include.chimera.errors import SnapshotMissingError
from include.chimera.lake.delta.scans import relation_of, scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, identifier, quote
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from include.chimera.lake.staged.publications import Publication
    from include.chimera.lake.staged.verdicts import Verdict
    from include.chimera.window import Run

PINNED_LAYERS = ("silver", "gold")


@dataclass(frozen=True)
class Snapshot:
    """The versions that one run committed together.

    Args:
        run_id: The run.
        versions: Version by `<layer>.<table>`.
    """

    run_id: str
    versions: dict[str, int]

    def views(self) -> str:
        """Return a DuckDB script that loads `delta` and creates a view of each pinned table."""
        tables = {Relation.parse(table): version for table, version in self.versions.items()}
        schemas = sorted({table.schema for table in tables})
        lines = [f"-- The tables as run {self.run_id} left them.", "load delta;"]
        lines += [f"create schema if not exists {identifier(schema)};" for schema in schemas]
        for table, version in sorted(tables.items()):
            lines.append(
                f"create or replace view {relation_of(table)} as "
                f"from delta_scan({quote(folder_of(table))}, version => {version});"
            )
        return "\n".join(lines) + "\n"


def publish_versions(
    run: Run,
    gated: Collection[str],
    published: Mapping[str, Publication],
    verdicts: Mapping[str, Verdict],
) -> int:
    """Append the run's versions, if each gated table's gate let its rows through; return how many.

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
    rows = [
        {
            "run_id": run.run_id,
            "correlation_id": run.correlation_id,
            "table_name": table,
            "table_version": publication.version,
            "window_start": run.window.start,
            "window_end": run.window.end,
            "recorded_at": verdicts[table].validated_at,
            "_window_hour": hour_label(run.window.start),
        }
        for table, publication in published.items()
        if Relation.parse(table).schema in PINNED_LAYERS
    ]
    return append_rows(PUBLISHED_VERSIONS, rows, run)


def published_snapshot(run_id: str | None = None) -> Snapshot:
    """Return the versions that a run committed together.

    Args:
        run_id: The run; None: the last recorded one.

    Raises:
        SnapshotMissingError: No such run has passed all its gates.
    """
    table = open_table(PUBLISHED_VERSIONS.name)
    rows: list[tuple[str, str, int]] = []
    if table is not None:
        chosen = f"run_id = {quote(run_id)}" if run_id else "true"
        with connect() as connection:
            rows = connection.execute(
                f"with versions as ({scan(table, PUBLISHED_VERSIONS.name)} where {chosen}) "
                "select run_id, table_name, max(table_version) from versions where run_id = "
                "(select arg_max(run_id, recorded_at) from versions) group by all"
            ).fetchall()
    if not rows:
        raise SnapshotMissingError(
            expected=f"versions of the run {run_id}" if run_id else "a published snapshot",
            came="none",
            where=PUBLISHED_VERSIONS.name,
        )
    return Snapshot(rows[0][0], {name: version for _, name, version in rows})


def write_views(snapshot: Snapshot, path: Path | None = None) -> str:
    """Write the snapshot's views as a DuckDB script, atomically; return its place.

    Args:
        snapshot: The versions to pin.
        path: The file; None: `views.sql` beside the lake's layers.
    """
    place = str(path.absolute()) if path else f"{get_settings().lake}/views.sql"
    with storage_errors("writing the views of a snapshot"):
        storage.write_text(place, snapshot.views())
    return place
