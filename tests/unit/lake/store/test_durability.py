"""New files reach the disk before the log names them, and the log before the task goes on."""

import os
from pathlib import Path

import pyarrow as pa
from deltalake import Schema

from include.chimera.lake.delta.lineage import Plan
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Whole
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.manifests import Build, save
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.upkeep.optimization import optimize_layer
from tests.builders import generations, publish, run_of

TABLE = "bronze.generations"


def test_files_are_synced_before_their_commit_and_the_log_after_it(connection, lake, monkeypatch):
    synced, sync = [], os.fsync

    def watch(descriptor):
        place = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(lake)
        table = open_table(TABLE)
        synced.append((place, table.version() if table else None))
        sync(descriptor)

    publish(connection, run_of(), TABLE, generations(1))
    before = open_table(TABLE).version()
    monkeypatch.setattr(os, "fsync", watch)
    publish(connection, run_of(), TABLE, generations(1, status="'late'"))
    table = open_table(TABLE)
    root = Path("bronze/generations")
    (new,) = set(table.file_uris()) - set(open_table(TABLE, before).file_uris())
    data = Path(new).relative_to(lake)
    first = {
        place for place, version in synced if version == before and root in [place, *place.parents]
    }
    assert first == {data, data.parent, root}
    after = {place for place, version in synced if version == table.version()}
    assert {root / "_delta_log", root / f"_delta_log/{table.version():020}.json"} <= after


def test_what_a_compaction_wrote_is_synced(connection, lake, monkeypatch):
    """delta-rs leaves it to the operating system, and a later commit syncs its own files alone."""
    for number in range(10):
        publish(connection, run_of(), TABLE, generations(1, status=f"'{number}'"))
    synced, sync = set(), os.fsync

    def watch(descriptor):
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(lake))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    optimize_layer("bronze")
    table = open_table(TABLE)
    (merged,) = table.file_uris()
    entry = f"bronze/generations/_delta_log/{table.version():020}.json"
    assert {Path(merged).relative_to(lake), Path(entry)} <= synced


def test_what_a_model_staged_is_synced_before_its_manifest(connection, lake, monkeypatch):
    """Its gate may come after a power cut, and could not tell a hollow file from its own."""
    synced, sync = set(), os.fsync

    def watch(descriptor):
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    columns = pa.schema({"value": pa.int64()})
    files = write_files(connection, "select 1 as value", folder_of("gold.fct"), columns, [])
    monkeypatch.setattr(os, "fsync", watch)
    schema = Schema.from_arrow(columns).to_json()
    save(run_of(), Build("gold.fct", files, schema, [], Whole(), Plan(None, {}), "invocation"))
    assert {lake / "gold" / "fct" / file.path for file in files} <= synced
