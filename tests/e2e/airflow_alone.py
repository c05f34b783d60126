"""Airflow started by its own command line, as a machine without our supervisor has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAG = "chimera_etl_hourly"
MINUTES = 10
BIN = Path(sys.executable).parent


def inherited() -> dict[str, str]:
    """Return this process's environment without what is ours."""
    ours = ("CHIMERA_", "AIRFLOW", "PYTHONPATH")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)}  # noqa: TID251 - a child inherits


@contextmanager
def running(command: list[str], log: Path, **options: object) -> Iterator[None]:
    """Run a command in a process group of its own, and end it with all that came of it."""
    with log.open("wb") as file:
        process = psutil.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, **options
        )
    try:
        yield
    finally:
        family = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=30)
        for each in left:
            each.kill()


def wait(is_so: Callable[[], bool], minutes: float, *logs: Path) -> None:
    """Wait; fail with the ends of the logs if it takes too long."""
    deadline = time.monotonic() + 60 * minutes
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail("\n".join(f"== {log}\n{log.read_text()[-3000:]}" for log in logs))
        time.sleep(1)
