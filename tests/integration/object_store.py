"""An S3-compatible store on this machine, and the settings that put the lake into it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import httpx
from tenacity import retry, stop_after_delay, wait_fixed

from include.chimera.lake.store import storage
from include.chimera.local.servers.ports import choose_port
from include.chimera.paths import PROJECT
from include.chimera.settings import get_object_store, get_settings

MOTO = ("moto.server", "-H", "127.0.0.1", "-p", "{port}")


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.2))
def _make_bucket(url):
    """Make a bucket, once the server answers."""
    httpx.put(url).raise_for_status()


@contextmanager
def store_server(bucket, command=MOTO):
    """Run a server with one bucket; yield the `AWS_…` variables that lead to it.

    Args:
        bucket: Its name.
        command: A Python module and its arguments; `{port}` is filled in.
    """
    # A process of its own: delta-rs keeps Python's lock while it waits for an answer.
    port = choose_port(0)
    place = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", *(part.format(port=port) for part in command)],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _make_bucket(f"{place}/{bucket}")
        yield {
            "AWS_ENDPOINT_URL": place,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",  # pragma: allowlist secret
        }
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def object_store():
    """Run a server; yield the variables that put a lake into a bucket of it."""
    with store_server("lake") as variables:
        yield {**variables, "CHIMERA_LAKE_ROOT": "s3://lake/root"}


def forget_settings():
    """Let the next reader of the settings and of the store's credentials read the environment."""
    for cached in (get_settings, get_object_store, storage._filesystem):
        cached.cache_clear()
