"""A real S3 server on this machine, strict with signatures, and the settings that lead to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pyarrow import fs
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from include.chimera.lake.store import storage
from include.chimera.local.servers.ports import LOOPBACK, choose_port
from include.chimera.local.supervision import launch
from include.chimera.paths import PROJECT
from include.chimera.settings import get_object_store, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

WEED = Path(sys.executable).with_name("weed")
KEY, SECRET = "tests", "known-to-the-tests-alone"  # pragma: allowlist secret
READER = ("readers", "may-read-alone")  # pragma: allowlist secret
BUCKET = "lake"
_SERVERS = ("master", "volume", "filer", "s3")
_OPTIONS = {
    "ip": LOOPBACK,
    "ip.bind": LOOPBACK,
    "s3": "true",
    "s3.autoCreateBucket": "false",
    "s3.iam": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "master.peers": "none",
    "master.telemetry": "false",
    "master.volumeSizeLimitMB": "64",
    "volume.max": "0",
    "volume.preStopSeconds": "0",
}


@dataclass(frozen=True)
class Store:
    """A running server: its endpoint, and what leads to it."""

    url: str

    @property
    def variables(self) -> dict[str, str]:
        """Return the `AWS_…` variables of a process that may read and write."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    @property
    def reading(self) -> dict[str, str]:
        """Return the variables of a process that may only read."""
        key, secret = READER
        return {**self.variables, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def new_lake(self) -> dict[str, str]:
        """Return the variables that put a lake into a folder that nobody else uses."""
        return {**self.variables, "CHIMERA_LAKE_ROOT": f"s3://{BUCKET}/{uuid4().hex}"}

    def files(self) -> fs.S3FileSystem:
        """Return all buckets as one file system."""
        return fs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            region="us-east-1",
            endpoint_override=self.url,
            allow_bucket_creation=True,
        )


def dying_with_us(*command: str) -> list[str]:
    """Return the command line of a server that ends with this process, however it ends."""
    options = ("-I", "-S", launch.__file__, "--die-with-parent", str(int(signal.SIGKILL)), "--")
    return [sys.executable, *options, *command]


@contextmanager
def store_server() -> Iterator[Store]:
    """Run SeaweedFS with one bucket; it answers after 2 s."""
    folder = Path(tempfile.mkdtemp(prefix="chimera-s3-"))
    ports = {name: (choose_port(0), choose_port(0)) for name in _SERVERS}
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
        for key, secret, actions in ((KEY, SECRET, everything), (*READER, ["Read", "List"]))
    ]
    (folder / "identities.json").write_text(json.dumps({"identities": identities}))
    options = {**_OPTIONS, "dir": str(folder), "s3.config": str(folder / "identities.json")}
    for name, (port, grpc) in ports.items():
        options |= {f"{name}.port": str(port), f"{name}.port.grpc": str(grpc)}
    for name in ("s3", "filer"):
        options[f"{name}.localSocket"] = str(folder / f"{name}.sock")
    command = (str(WEED), "-logtostderr", "server", *(f"-{n}={v}" for n, v in options.items()))
    store = Store(f"http://{LOOPBACK}:{ports['s3'][0]}")
    with (folder / "log").open("wb") as log:
        # A process of its own: delta-rs keeps Python's lock while it waits for an answer.
        server = subprocess.Popen(  # noqa: S603 - our own command line
            dying_with_us(*command),
            cwd=folder,
            env={"PATH": os.defpath, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError),
            stop=stop_after_delay(60),
            wait=wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                store.files().create_dir(BUCKET)
        yield store
    finally:
        server.kill()
        server.wait(10)
        shutil.rmtree(folder)
        for name, (_, grpc) in ports.items():  # SeaweedFS knows no other place for these
            Path(f"/tmp/seaweedfs-{name}-grpc-{grpc}.sock").unlink(missing_ok=True)  # noqa: S108


@contextmanager
def failing(store: Store, orders: Path) -> Iterator[Store]:
    """Put a proxy before a server, which does what the file of orders says (`store_proxy.py`)."""
    port = choose_port(0)
    module = ("-m", "tests.integration.store_proxy", str(port), store.url, str(orders))
    proxy = subprocess.Popen(  # noqa: S603 - our own command line
        dying_with_us(sys.executable, *module), cwd=PROJECT, stdout=subprocess.PIPE
    )
    try:
        assert proxy.stdout
        assert proxy.stdout.readline() == b"ready\n"
        yield Store(f"http://{LOOPBACK}:{port}")
    finally:
        proxy.kill()
        proxy.wait(10)
        if proxy.stdout:
            proxy.stdout.close()


def forget_settings() -> None:
    """Let the next reader of the settings and of the store's credentials read the environment."""
    for cached in (get_settings, get_object_store, storage._filesystem):
        cached.cache_clear()


@contextmanager
def lake_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put this process's lake into the bucket; yield its root. Then undo all of monkeypatch."""
    variables = store.new_lake()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    yield variables["CHIMERA_LAKE_ROOT"]
    monkeypatch.undo()
    forget_settings()
