"""New files reach the disk before the log names them, and the log before the task goes on."""

import os
from pathlib import Path

from include.chimera.lake.delta.tables import open_table
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
    assert {place for place, version in synced if version == before} == {data, data.parent, root}
    after = {place for place, version in synced if version == table.version()}
    assert {root / "_delta_log", root / f"_delta_log/{table.version():020}.json"} <= after
