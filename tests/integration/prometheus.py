"""A real Prometheus on loopback, with history."""

import shutil
import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest

from include.chimera.local.servers.ports import choose_port

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None,
    reason="prometheus and promtool are not installed (Debian: apt-get install prometheus)",
)


@contextmanager
def prometheus(folder, workspace):
    """Fill a server with the folder's OpenMetrics files, start it, yield its URL, and stop it."""
    for path in sorted(folder.glob("*.om")):
        subprocess.run(  # noqa: S603 - fixed arguments
            [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", path, workspace / "data"],
            check=True,
            capture_output=True,
        )
    (workspace / "prometheus.yml").write_text("{}")
    with serve(workspace, choose_port(0)) as url:
        yield url


@contextmanager
def serve(workspace, port, *options, client=None):
    """Start a server on a folder that holds its prometheus.yml, yield its URL, and stop it.

    A client that reaches it otherwise than by plain HTTP is given: its base URL is the server's.
    """
    with (workspace / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - fixed arguments
            [
                PROMETHEUS,
                f"--config.file={workspace / 'prometheus.yml'}",
                f"--storage.tsdb.path={workspace / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with client or httpx.Client(base_url=url) as asker:
            _wait(process, asker, workspace / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(process, client, log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"prometheus did not start:\n{log.read_text()[-2000:]}")
