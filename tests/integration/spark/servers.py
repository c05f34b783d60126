"""Spark Connect servers in processes of their own, which end with the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from include.chimera.local.servers.ports import LOOPBACK, choose_port
from tests.integration.object_store import dying_with_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAIL = Path(sys.executable).with_name("sail")


@dataclass
class Server:
    """A running server."""

    remote: str
    process: subprocess.Popen

    def kill(self) -> None:
        """End it as a machine's failure would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def sail(folder: Path, variables: Mapping[str, str], port: int | None = None) -> Iterator[Server]:
    """Run Sail, which answers within a second."""
    port = port or choose_port(0)
    command = (str(SAIL), "spark", "server", "--ip", LOOPBACK, "--port", str(port))
    with _running(folder, port, command, variables) as server:
        yield server


@contextmanager
def _running(
    folder: Path, port: int, command: tuple[str, ...], variables: Mapping[str, str]
) -> Iterator[Server]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}  # noqa: TID251 - a child's
    with (folder / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            dying_with_us(*command), cwd=folder, env=environment, stdout=log, stderr=log
        )
    server = Server(f"sc://{LOOPBACK}:{port}", process)
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError), stop=stop_after_delay(120),
            wait=wait_fixed(0.1), reraise=True,
        ):  # fmt: skip
            with attempt, socket.create_connection((LOOPBACK, port)):
                assert process.poll() is None, (folder / f"server-{port}.log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait()


@contextmanager
def apache_spark(folder: Path, home: Path, port: int | None = None) -> Iterator[Server]:
    """Run Apache Spark's own server, with two executors in processes of their own.

    Args:
        folder: Where it writes.
        home: Spark's home.
        port: Its port; None: any.
    """
    port = port or choose_port(0)
    config = {
        "spark.connect.grpc.binding.address": LOOPBACK,
        "spark.connect.grpc.binding.port": port,
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": 4,
        "spark.sql.warehouse.dir": folder / "warehouse",
    }
    command = [str(home / "bin" / "spark-submit"), "--master", "local-cluster[2,1,1024]"]
    command += [text for item in config.items() for text in ("--conf", "{}={}".format(*item))]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    with _running(folder, port, (*command, "spark-internal"), {"SPARK_HOME": str(home)}) as server:
        yield server


def executors(server: Server) -> list[psutil.Process]:
    """Return the processes of Apache Spark's executors."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return list(filter(_is_executor, children))


def _is_executor(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # one that has just ended
        return "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())
    return False
