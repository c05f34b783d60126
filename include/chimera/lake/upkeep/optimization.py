"""Compact and vacuum Delta tables.

Neither changes a row, and each compaction is checked for that.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from include.chimera.errors import VerificationError
from include.chimera.lake.dead_letters.erasure import EXPIRED, erase, expired, payloads
from include.chimera.lake.delta.commits import is_conflict
from include.chimera.lake.delta.scans import pinned_versions, scan
from include.chimera.lake.delta.tables import leaving_out, open_tables, table_names, vacuum
from include.chimera.lake.publish.verification import latest_commits
from include.chimera.lake.store.duckdb_sessions import among, connect
from include.chimera.lake.store.durability import sync_files, sync_log
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.lake.upkeep.orphaned_files import Removal, remove_leftovers
from include.chimera.relation import Relation
from include.chimera.settings import get_settings

logger = logging.getLogger(__name__)

_TOKEN = "compaction_token"  # noqa: S105 - names the commit in the history, no secret


@dataclass(frozen=True)
class Upkeep:
    """What upkeep did to one table."""

    table: str
    files_before: int
    files_after: int
    files_vacuumed: int

    def __str__(self) -> str:
        """Describe it in one line."""
        return f"{self.files_before} files are {self.files_after}, {self.files_vacuumed} vacuumed"


def maintain(*, dry_run: bool) -> list[Removal]:
    """Remove what the hourly upkeep leaves; return what was removed, by kind and table.

    Call this about once a day; it is safe while pipelines run. Remove first the payloads of dead
    letters older than the setting `letter_days`. Then remove, if older than `vacuum_hours`:
    half-written files of killed writers, files that no version names (vacuumed, or staged but never
    committed), and the folders of finished runs with their staged rows. The operational tables are
    compacted here, as the hourly upkeep does with the others.

    Args:
        dry_run: Only report what would be removed.

    Raises:
        CommitConflictError: Every attempt lost to another writer; call it again.
        VerificationError: A compaction changed rows.
    """
    done = []
    count, size = payloads(expired())
    if count:
        done.append(Removal("letter_payloads", "ops.dead_letters", count, size))
        if not dry_run:
            erase(expired(), EXPIRED, "maintenance")
    if not dry_run:
        optimize_layer("ops")
    done.extend(remove_leftovers(dry_run=dry_run))
    for removal in done:
        logger.info("%s %s", "would remove" if dry_run else "removed", removal)
    return done


def optimize_layer(layer: str) -> list[Upkeep]:
    """Compact and vacuum the layer's tables that need it; return what was done, by table.

    A partition is compacted once it holds at least `compact_files` files (a setting). Losing to
    another writer is no error: the next run tries again. A table that can't be read is logged and
    left out. The version that readers are pinned to keeps its files, however old it is.

    Raises:
        VerificationError: A compaction changed rows.
    """
    done = []
    names = [name for name in table_names() if Relation.parse(name).schema == layer]
    pinned = pinned_versions()
    for name, table in open_tables(names).items():
        with leaving_out(name):
            upkeep = _optimize(name, table, pinned.get(Relation.parse(name)))
            if upkeep.files_before != upkeep.files_after or upkeep.files_vacuumed:
                done.append(upkeep)
                logger.info("upkeep of %s: %s", name, upkeep)
    return done


def _optimize(name: str, table: DeltaTable, pinned: int | None) -> Upkeep:
    before = len(table.file_uris())
    crowded = _crowded_partitions(table)
    if crowded is not None:
        compact(name, table, crowded)
    vacuumed = vacuum(table, pinned, dry_run=True)
    if vacuumed:
        vacuum(table, pinned, dry_run=False)
    table.update_incremental()
    if table.version() and table.version() % 10 == 0:
        table.create_checkpoint()
    return Upkeep(name, before, len(table.file_uris()), len(vacuumed))


def compact(name: str, table: DeltaTable, crowded: list[str]) -> None:
    """Merge the small files of partitions, and compare their rows before and after.

    delta-rs writes and commits in one call, so the new files reach the disk right after the commit
    and not before: a power cut in between may leave them hollow, with the version before whole.

    Args:
        name: `<layer>.<table>`.
        table: The table, freshly loaded.
        crowded: Values of its partition column; []: the whole table.

    Raises:
        VerificationError: The commit changed rows.
        LakeError: The table can't be read or written.
    """
    (column, *_) = (*table.metadata().partition_columns, "")
    token = uuid4().hex
    with storage_errors(f"compacting {name}"):
        try:
            metrics = table.optimize.compact(
                partition_filters=[(column, "in", crowded)] if crowded else None,
                max_concurrent_tasks=get_settings().duckdb_threads,
                commit_properties=CommitProperties(custom_metadata={_TOKEN: token}),
            )
        except CommitFailedError as error:
            if not is_conflict(error):
                raise
            logger.warning("compaction of %s lost against a writer", name)
            return
    if not metrics["numFilesRemoved"]:
        return
    # Don't trust the handle's version: it includes what others committed in the meantime.
    version = next(
        entry["version"] for entry in latest_commits(table) if entry.get(_TOKEN) == token
    )
    chosen = among(column, crowded) if crowded else "true"
    old, new = (DeltaTable(table.table_uri, number) for number in (version - 1, version))
    sync_files(new.table_uri, sorted(_paths(new) - _paths(old)))
    sync_log(new.table_uri, version - 1, version)
    before, after = (_content(one, name, chosen) for one in (old, new))
    if before != after:
        raise VerificationError(
            expected=f"the same {before[0]} rows after a compaction",
            came=f"{after[0]} rows, or other values",
            where=f"table {name}, version {version}",
            remedy=f"stop the DAG; version {version - 1} is whole; check deltalake's version",
        )


def _paths(table: DeltaTable) -> set[str]:
    return {unquote(path) for path in pa.table(table.get_add_actions())["path"].to_pylist()}


def _content(table: DeltaTable, name: str, chosen: str) -> tuple[int, int]:
    """Return the row count and an order-independent checksum of the chosen rows."""
    rows = scan(table, name)
    with connect() as connection:
        count, checksum = connection.execute(
            "select count(*), sum(cast(hash(content) as hugeint)) "
            f"from (select * from ({rows}) where {chosen}) as content"
        ).fetchone() or (0, 0)
    return count, checksum


def _crowded_partitions(table: DeltaTable) -> list[str] | None:
    """Return the partitions with too many files; []: the whole table; None: none."""
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = [f"partition.{name}" for name in table.metadata().partition_columns]
    rows = actions.select(columns).to_pylist() if columns else [{}] * actions.num_rows
    files = Counter(tuple(row.values()) for row in rows)
    crowded = [values for values, n in files.items() if n >= get_settings().compact_files]
    if not crowded:
        return None
    is_simple = len(columns) == 1 and all(values[0] is not None for values in crowded)
    return sorted(values[0] for values in crowded) if is_simple else []
