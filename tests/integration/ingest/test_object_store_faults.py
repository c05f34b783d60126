"""A lake in an object store that is overloaded, broken, or no longer lets us in."""

import subprocess
import sys
from socket import socket

import httpx
import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from include.chimera.errors import StorageError
from include.chimera.lake import storage
from include.chimera.paths import PROJECT
from include.chimera.settings import get_object_store, get_settings
from tests.integration.ingest.pipeline import at, extract, ingest, insert, publish, rows, run_of

pytestmark = pytest.mark.integration


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.2))
def make_bucket(url):
    httpx.put(url).raise_for_status()


@pytest.fixture
def store(tmp_path, monkeypatch, configure):
    """Put the lake into a bucket; return a function that lets the next requests fail."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    orders, place = tmp_path / "orders", f"http://127.0.0.1:{port}"
    server = subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", "tests.integration.ingest.store", str(port), str(orders)],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name, value in {
        "ENDPOINT_URL": place,
        "ALLOW_HTTP": "true",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "secret",  # pragma: allowlist secret
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    configure(state_dir=tmp_path, lake_root="s3://lake/root")
    for cached in (get_object_store, storage._filesystem):
        cached.cache_clear()
    try:
        make_bucket(f"{place}/lake")
        yield lambda status, code, count: orders.write_text(f"{status} {code} {count}")
    finally:
        server.terminate()
        server.wait(10)
        for cached in (get_settings, get_object_store, storage._filesystem):
            cached.cache_clear()


@pytest.mark.parametrize("answer", [(500, "InternalError"), (503, "SlowDown")])
def test_a_store_that_fails_for_a_moment_is_asked_again(server, uri, store, answer):
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    insert(server, 2, at(1))
    store(*answer, 1)
    extract(uri, run_of(1))
    store(*answer, 1)
    assert publish(run_of(1)).rows_published == 1
    assert len(rows()) == 2


def test_expired_credentials_are_an_outage_and_leave_the_table_as_it_was(server, uri, store):
    """A new key mends it, so the task tries again; nothing half written is visible."""
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    insert(server, 2, at(1))
    store(403, "ExpiredToken", 1000)
    with pytest.raises(StorageError, match="credentials"):
        extract(uri, run_of(1))
    store(403, "ExpiredToken", 0)
    extract(uri, run_of(1))
    store(403, "ExpiredToken", 1000)
    with pytest.raises(StorageError, match="credentials"):
        publish(run_of(1))
    store(403, "ExpiredToken", 0)
    assert len(rows()) == 1
    assert publish(run_of(1)).rows_published == 1
    assert len(rows()) == 2
