"""An S3-compatible store on this machine, and the settings that put the lake into it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from socket import socket

import httpx
from tenacity import retry, stop_after_delay, wait_fixed

from include.chimera.lake import storage
from include.chimera.settings import get_object_store, get_settings


@retry(stop=stop_after_delay(30), wait=wait_fixed(0.2))
def _make_bucket(url):
    """Make a bucket, once the server answers."""
    httpx.put(url).raise_for_status()


@contextmanager
def object_store():
    """Run a server; yield the variables that put a lake into a bucket of it."""
    # A process of its own: delta-rs keeps Python's lock while it waits for an answer.
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command line
    try:
        _make_bucket(f"{place}/lake")
        yield {
            "CHIMERA_LAKE_ROOT": "s3://lake/root",
            "AWS_ENDPOINT_URL": place,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",  # pragma: allowlist secret
        }
    finally:
        server.terminate()
        server.wait(10)


def forget_settings():
    """Let the next reader of the settings and of the store's credentials read the environment."""
    for cached in (get_settings, get_object_store, storage._filesystem):
        cached.cache_clear()
