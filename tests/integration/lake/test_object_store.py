"""The lake in an S3-compatible store: the same code, another root."""

from __future__ import annotations

import subprocess
import sys
from socket import socket

import httpx
import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from include.chimera.lake import storage
from include.chimera.lake.tables import open_table, table_names
from include.chimera.lake.views import View
from include.chimera.settings import get_object_store, get_settings

pytestmark = pytest.mark.integration


@retry(stop=stop_after_delay(30), wait=wait_fixed(0.2))
def make_bucket(url):
    """Make a bucket, once the server answers."""
    httpx.put(url).raise_for_status()


@pytest.fixture
def lake(tmp_path):
    """Put the lake into a bucket of a server on this machine."""
    # A process of its own: delta-rs keeps Python's lock while it waits for an answer.
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command line
    make_bucket(f"{place}/lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
        patch.setenv("CHIMERA_LAKE_ROOT", "s3://lake/root")
        patch.setenv("AWS_ENDPOINT_URL", place)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        for cached in (get_settings, get_object_store, storage._filesystem):
            cached.cache_clear()
        yield "s3://lake/root"
    server.terminate()
    server.wait(10)
    for cached in (get_settings, get_object_store, storage._filesystem):
        cached.cache_clear()


def test_each_kind_of_change_reads_back_in_another_process(process):
    one = process()
    one.build("select i as id, i % 3 as part from range(9) r(i)", partition_by=("part",))
    one.build("select 4 as id, 1 as part union all select 99, 1", "merge", how={"keys": ("id",)})
    one.build("select 100 as id, 5 as part", "append")
    one.build("select 0 as id, 0 as part", "delete+insert", how={"keys": ("part",)})
    assert list(table_names()) == ["dev.model"]
    expected = [(0, 0), (1, 1), (2, 2), (4, 1), (5, 2), (7, 1), (8, 2), (99, 1), (100, 5)]
    assert process().rows() == expected


def test_writer_that_lost_tries_again(process):
    process().build("select 0 as id")
    one, two = process(), process()
    for writer in (one, two):
        writer.build("select max(id) + 1 as id from dev.model", "append", reads_itself=True)
    assert process().rows() == [(0,), (1,), (2,)]


def test_views_renamed_and_dropped_tables(process):
    one = process()
    one.build("select 1 as id")
    one.session.save_view("dev.seen", View("select id + 1 as next from dev.model"))
    assert process().rows("from dev.seen") == [(2,)]
    one.session.rename("dev.model", "dev.other")
    assert process().rows("from dev.other") == [(1,)]
    one.session.drop("dev.other")
    assert open_table("dev.other") is None
    assert list(table_names()) == []
