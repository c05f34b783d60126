"""Runs over three tables that are made of each other; in each row stands the number of its run.

So whoever reads the tables sees whether all are of one run. Writers and readers are processes,
which die at any moment.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import Schema

from include.chimera.lake.delta.lineage import plan
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Whole
from include.chimera.lake.delta.scans import views_place
from include.chimera.lake.delta.tables import begin_table, open_table
from include.chimera.lake.ops_tables.consistent_snapshots import (
    publish_versions,
    published_snapshot,
    write_views,
)
from include.chimera.lake.publish.model_builds import commit_build
from include.chimera.lake.staged.manifests import Build
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.upkeep.optimization import optimize_layer
from include.chimera.operations.versions.whole_runs import restore_run
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from include.chimera.window import HOUR as ONE_HOUR
from include.chimera.window import Run
from tests.builders import HOUR, run_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Each with what it is made of.
TABLES = {
    "silver.ticks": (),
    "gold.fct_ticks": ("silver.ticks",),
    "gold.agg_ticks": ("gold.fct_ticks",),
}
QUERIES_OF_A_SCRIPT = 4
_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(["tests.integration.lake.ticks"])


def tick(number: int) -> Run:
    """Return a run by its number."""
    return run_of(HOUR + (number % 500) * ONE_HOUR, f"run_{number}")


def build(
    connection: DuckDBPyConnection,
    run: Run,
    table: str,
    query: str,
    partition_by: tuple[str, ...] = (),
) -> Publication:
    """Build a table whole and commit it, as a model's gate does."""
    parents = {Relation.parse(name): open_table(name) for name in TABLES.get(table, ())}
    planned = plan(open_table(table), parents, run)
    begin_table(table)
    schema = connection.sql(query).to_arrow_table().schema
    files = write_files(connection, query, folder_of(table), schema, partition_by)
    columns = Schema.from_arrow(schema).to_json()
    done = commit_build(Build(table, files, columns, [*partition_by], Whole(), planned, ""), run)
    return Publication(table, 1, 1, 0, 0, done.version())


def build_tick(connection: DuckDBPyConnection, number: int, table: str) -> Publication:
    """Build one of the tables for a run: three rows with its number."""
    return build(connection, tick(number), table, f"select i, {number} as run from range(3) r(i)")


def close(number: int, published: dict[str, Publication]) -> int:
    """Publish a run's snapshot and show it to readers, as its last task does; return its tables."""
    run, now = tick(number), datetime.now(UTC)
    verdicts = {
        table: Verdict(table, run.run_id, run.window, True, (), 1, 0, (), 1.0, now)
        for table in published
    }
    done = publish_versions(run, [*TABLES], published, verdicts)
    write_views(published_snapshot())
    return done


def publish_tick(connection: DuckDBPyConnection, number: int) -> None:
    """Do all of a run."""
    close(number, {table: build_tick(connection, number, table) for table in TABLES})


def pinned_runs(connection: DuckDBPyConnection, *, is_new: bool = True) -> set[int]:
    """Return the runs that a reader of the views finds in the tables."""
    if is_new:
        connection.execute(Path(views_place()).read_text())
    return _runs(connection, list(TABLES))


def live_runs(connection: DuckDBPyConnection) -> set[int]:
    """Return the runs that a reader of the newest versions finds, one table after the other."""
    return _runs(connection, [f"delta_scan('{folder_of(table)}')" for table in TABLES])


def _runs(connection: DuckDBPyConnection, relations: list[str]) -> set[int]:
    queries = [f"select distinct run from {relation}" for relation in relations]
    return {run for query in queries for (run,) in connection.execute(query).fetchall()}


def _point(folder: str, fault: str = "") -> None:
    os.environ.update({"CHIMERA_STATE_DIR": folder, "CHIMERA_FAULT_POINT": fault})  # noqa: TID251 - a process of its own
    get_settings.cache_clear()


def _restore(folder: str, fault: str, run: str) -> None:
    _point(folder, fault)
    restore_run(run, "the fault of run 3")


def restore_killed(folder: Path, fault: str, run: str) -> bool:
    """Restore a run in a process that dies at a step; return whether it died."""
    child = _START.Process(target=_restore, args=(str(folder), fault, run))
    child.start()
    child.join(300)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _write(folder: str, first: int) -> None:
    _point(folder)
    with connect() as connection:
        for number in count(first):
            publish_tick(connection, number)
            for layer in ("silver", "gold", "ops"):
                optimize_layer(layer)


@dataclass
class Seen:
    """What readers saw: reads are of one table each, looks of all of them."""

    reads: int = 0
    looks: int = 0
    mixed: int = 0
    live_looks: int = 0
    live_mixed: int = 0
    kills: int = 0
    runs: int = 0


def _read(folder: str, most: int, until: float, told: multiprocessing.Queue) -> None:
    _point(folder)
    seen, runs = Seen(), set()
    with connect() as connection:
        while seen.reads < most and time.time() < until:
            for number in range(QUERIES_OF_A_SCRIPT):
                found = pinned_runs(connection, is_new=number == 0)
                seen.looks += 1
                seen.reads += len(TABLES)
                seen.mixed += len(found) != 1
                runs |= found
            seen.live_looks += 1
            seen.live_mixed += len(live_runs(connection)) != 1
    seen.runs = len(runs)
    told.put(seen)


def watch(folder: Path, reads: int, seconds: float, readers: int = 2) -> Seen:
    """Let readers read while a writer publishes runs and is killed at random, again and again."""
    with connect() as connection:
        publish_tick(connection, 0)
    told, until = _START.Queue(), time.time() + seconds
    arguments = (str(folder), reads // readers, until, told)
    watching = [_START.Process(target=_read, args=arguments) for _ in range(readers)]
    for reader in watching:
        reader.start()
    kills, chance = 0, random.Random(7)  # noqa: S311 - no secret
    while any(reader.is_alive() for reader in watching) and told.qsize() < readers:
        writer = _START.Process(target=_write, args=(str(folder), (kills + 1) * 1000))
        writer.start()
        writer.join(chance.uniform(1, 8))
        assert writer.exitcode is None, "a writer ends only when it is killed"
        writer.kill()
        writer.join()
        kills += 1
    found = [told.get(timeout=60) for _ in watching]
    for reader in watching:
        reader.join(60)
        assert reader.exitcode == 0
    total = Seen(kills=kills, runs=max(each.runs for each in found))
    for name in ("reads", "looks", "mixed", "live_looks", "live_mixed"):
        setattr(total, name, sum(getattr(each, name) for each in found))
    return total
