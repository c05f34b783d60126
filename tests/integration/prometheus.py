"""A real Prometheus on loopback, with history."""

import json
import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest

from include.chimera.local.servers.ports import choose_port

PASSWORD = "p w+d/:@%?&=é'\\"  # noqa: S105 # pragma: allowlist secret - with what breaks a URI
# Made once by crypt(3), since no package that hashes by bcrypt is at hand.
HASHED = "$2b$04$J/XIt1.Vy71PUqcNFpVtWemZQAaiHB7y6JEHh6fVAMPVHE8c6rppO"  # pragma: allowlist secret
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None,
    reason="prometheus and promtool are not installed (Debian: apt-get install prometheus)",
)


def fill(path, workspace):
    """Make blocks of a server's history from an OpenMetrics file."""
    subprocess.run(  # noqa: S603 - fixed arguments
        [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", path, workspace / "data"],
        check=True,
        capture_output=True,
    )


@contextmanager
def prometheus(folder, workspace):
    """Fill a server with the folder's OpenMetrics files, start it, yield its URL, and stop it."""
    for path in sorted(folder.glob("*.om")):
        fill(path, workspace)
    (workspace / "prometheus.yml").write_text("{}")
    with serve(workspace, choose_port(0)) as url:
        yield url


@contextmanager
def guarded(folder, workspace, authority):
    """Do the same behind TLS and a login; yield the Airflow connection that leads to it."""
    for path in sorted(folder.glob("*.om")):
        fill(path, workspace)
    port, (certificate, key) = choose_port(0), authority.sign("prometheus", "127.0.0.1")
    web = {
        "tls_server_config": {"cert_file": str(certificate), "key_file": str(key)},
        "basic_auth_users": {"reader": HASHED},
    }
    (workspace / "web.yml").write_text(json.dumps(web))
    (workspace / "prometheus.yml").write_text("{}")
    context = ssl.create_default_context(cafile=authority.file)
    url, login = f"https://127.0.0.1:{port}", ("reader", PASSWORD)
    client = httpx.Client(base_url=url, auth=login, verify=context)
    with serve(workspace, port, f"--web.config.file={workspace / 'web.yml'}", client=client):
        yield {
            "conn_type": "http",
            "host": url,
            "login": "reader",
            "password": PASSWORD,
            "extra": {"verify": str(authority.file)},
        }


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
