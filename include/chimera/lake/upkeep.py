"""Upkeep of Delta tables: small files merged, files that nothing refers to removed."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake.exceptions import CommitFailedError

from include.chimera.lake.tables import open_table, table_names
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from deltalake import DeltaTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upkeep:
    """What upkeep did to one table."""

    table: str
    files_before: int
    files_after: int
    files_vacuumed: int


def optimize_layer(layer: str) -> list[Upkeep]:
    """Compact and vacuum the layer's tables that need it; return what was done to which.

    A table needs compaction when one of its partitions holds as many files as the setting
    `compact_files` says. Losing against a writer is no failure: the next run tries again.
    """
    done = []
    for name in table_names():
        if name.split(".")[0] != layer:
            continue
        table = open_table(name)
        if table is None:
            continue
        upkeep = _optimize(name, table)
        if upkeep.files_before != upkeep.files_after or upkeep.files_vacuumed:
            done.append(upkeep)
            logger.info("upkeep of %s: %s", name, upkeep)
    return done


def _optimize(name: str, table: DeltaTable) -> Upkeep:
    settings = get_settings()
    before = len(table.file_uris())
    if max(_files_per_partition(table).values(), default=0) >= settings.compact_files:
        try:
            table.optimize.compact(max_concurrent_tasks=settings.duckdb_threads)
        except CommitFailedError:
            logger.warning("compaction of %s lost against a writer", name)
    vacuumed = table.vacuum(settings.vacuum_hours, dry_run=True)
    if vacuumed:
        table.vacuum(settings.vacuum_hours, dry_run=False)
    table.update_incremental()
    if table.version() and table.version() % 10 == 0:
        table.create_checkpoint()
    return Upkeep(name, before, len(table.file_uris()), len(vacuumed))


def _files_per_partition(table: DeltaTable) -> Counter[tuple[object, ...]]:
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = [f"partition.{name}" for name in table.metadata().partition_columns]
    rows = actions.select(columns).to_pylist() if columns else [{}] * actions.num_rows
    return Counter(tuple(row.values()) for row in rows)
