"""A process's limits: memory, disk, permissions. The table's last version survives each."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
import traceback

import pytest

from include.chimera.errors import CommitConflictError, StorageRefusedError
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.settings import get_settings
from tests.integration.lake.conftest import Process

pytestmark = pytest.mark.integration

ROWS = 4_000_000
MEGABYTE = 2**20


_START = multiprocessing.get_context("forkserver")


def _guarded(work, environment, writer):
    # The fork server keeps the variables of whichever test started it.
    os.environ.clear()  # noqa: TID251 - a process of its own
    os.environ.update(environment)  # noqa: TID251 - as above
    try:
        work()
        writer.send("")
    except BaseException:
        writer.send(traceback.format_exc())
        raise


def in_a_process(work, state_dir):
    """Run `work` in a process of its own; fail with its traceback."""
    reader, writer = _START.Pipe(duplex=False)
    environment = {**os.environ, "CHIMERA_STATE_DIR": str(state_dir)}  # noqa: TID251 - handed on
    child = _START.Process(target=_guarded, args=(work, environment, writer))
    child.start()
    message = reader.recv()
    child.join(60)
    assert not message, message


def fill_the_disk():
    """Exceed the file size limit, which looks like a full disk to a program."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, MEGABYTE))
    query = "select i as id, md5(i::varchar) as text from range(500000) r(i)"
    message = r"Expected .* came File too large. Where: .* Next: make space"
    with pytest.raises(StorageRefusedError, match=message), storage_errors("dev.model"):
        Process().build(query)


def write_without_permission():
    """Write as a user who may only read."""
    one = Process()
    one.rows()
    if os.geteuid() == 0:
        os.setuid(65534)
    message = r"Expected .* came Permission denied. Where: .* Next: make space"
    with pytest.raises(StorageRefusedError, match=message), storage_errors("dev.model"):
        one.build("select 2 as id")


def size_of(file):
    """Return a file's size, 0 if it no longer exists."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_model_bigger_than_memory_spills(process, lake, monkeypatch):
    monkeypatch.setenv("CHIMERA_DUCKDB_MEMORY_LIMIT", "150MB")
    get_settings.cache_clear()
    folder = lake.parent / "spill"
    sizes = [0]
    is_done = threading.Event()

    def watch():
        while not is_done.wait(0.02):
            sizes.append(sum(map(size_of, folder.glob("*"))))

    one = process()
    one.build("select 0::bigint as id, '' as text")
    watcher = threading.Thread(target=watch)
    watcher.start()
    query = (f"select i as id, md5(i::varchar) || md5((i + 1)::varchar) as text "
             f"from range({ROWS}) r(i) order by text")  # fmt: skip
    try:
        one.build(query, "merge", how={"keys": ("id",)})
    finally:
        is_done.set()
        watcher.join()
    assert max(sizes) > 50 * MEGABYTE
    found = process().rows("select count(*), count(distinct id), min(id), max(id) from dev.model")
    assert found == [(ROWS, ROWS, 0, ROWS - 1)]


def test_full_disk_is_told_in_four_parts_and_leaves_the_table(process, lake):
    process().build("select 1 as id")
    files = sorted(lake.rglob("*.parquet"))
    in_a_process(fill_the_disk, lake.parent)
    assert process().rows() == [(1,)]
    assert sorted(lake.rglob("*.parquet")) == files


def test_read_only_root_is_told_in_four_parts_and_leaves_the_table(process, lake):
    process().build("select 1 as id")
    folders = (lake / "dev" / "model", lake / "dev" / "model" / "_delta_log")
    for folder in folders:
        folder.chmod(0o555)
    in_a_process(write_without_permission, lake.parent)
    for folder in folders:
        folder.chmod(0o755)
    assert process().rows() == [(1,)]


def test_writer_that_always_loses_gives_up_and_leaves_the_others_rows(process):
    """A rival commits each time that this writer has computed its rows."""
    rival = process()
    rival.build("select 0 as id")
    one = process()

    def commit_first(value: int) -> int:
        rival.build("select 1 as id", "append")
        return value

    one.connection.create_function("rival", commit_first, side_effects=True)
    message = r"Expected a commit .* came another writer's .* Where: table dev.model.* Next: "
    started = time.monotonic()
    with pytest.raises(CommitConflictError, match=message):
        one.build(
            "select rival(max(id) + 10)::int as id from dev.model", "append", reads_itself=True
        )
    assert time.monotonic() - started < 60
    assert process().rows("select max(id) from dev.model") == [(1,)]
    assert open_table("dev.model").version() == len(process().rows()) - 1
