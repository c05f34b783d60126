"""New files reach the disk before the log names them, and the log before the task goes on."""

import os
from pathlib import Path

from include.chimera.lake.delta.tables import open_table
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
