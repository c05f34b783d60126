"""`make sources` and `astro dev start --standalone` end in a green hour, on loopback alone.

Neither astro nor Docker is needed: Airflow is started as astro's command line does it.
Source: astro-cli, airflow/standalone.go and pkg/airflowrt/env.go.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.ports import choose_port
from include.chimera.window import HOUR, floor_hour
from tests.e2e.astro.clones import fresh_clone
from tests.e2e.astro.compose import settings_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.long]

DAG = "chimera_etl_hourly"
MINUTES = 10
VARIABLES = ".chimera/astro.env"
BIN = Path(sys.executable).parent


def inherited() -> dict[str, str]:
    """Return this process's environment without what is ours."""
    ours = ("CHIMERA_", "AIRFLOW", "PYTHONPATH")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)}  # noqa: TID251 - a child inherits


def environment(project: Path, port: int) -> dict[str, str]:
    """Return the environment that astro gives Airflow: `--env`'s, and what it sets itself."""
    lines = [line.strip() for line in (project / VARIABLES).read_text().splitlines()]
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {
        **inherited(),
        **{name: text.strip("\"'") for name, text in pairs},
        "PATH": f"{BIN}:/usr/bin:/bin",
        "PYTHONPATH": f"{project / 'include'}:{project}",
        "AIRFLOW_HOME": str(project / ".astro" / "standalone"),
        "ASTRONOMER_ENVIRONMENT": "local",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
        "NO_PROXY": "*",
        "no_proxy": "*",
    }


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
    deadline = time.monotonic() + 60 * minutes
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail("\n".join(f"== {log}\n{log.read_text()[-3000:]}" for log in logs))
        time.sleep(1)


def test_the_first_full_hour_is_green_and_nobody_else_can_reach_the_server(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    clone, port = fresh_clone(tmp_path / "chimera"), choose_port(0)
    url, logs = f"http://localhost:{port}", (tmp_path / "sources.log", tmp_path / "airflow.log")
    sources = [sys.executable, "-m", "include.chimera", "sources", "--airflow", url]
    in_clone = {"cwd": clone, "env": {**inherited(), "PYTHONPATH": str(clone)}}
    with running(sources, logs[0], **in_clone):
        wait((clone / VARIABLES).exists, MINUTES, *logs)
        began, variables = time.monotonic(), environment(clone, port)
        with running([f"{BIN}/airflow", "standalone"], logs[1], cwd=clone, env=variables):
            api = AirflowApi(url)
            wait(api.is_up, MINUTES, *logs)
            for words in settings_commands(clone):
                command = [f"{BIN}/{words[0]}", *words[1:]]
                subprocess.run(  # noqa: S603 - fixed
                    command, cwd=clone, env=variables, check=True, capture_output=True
                )
            wait(lambda: any(run.is_over for run in api.runs(DAG)), MINUTES, *logs)
            record_property("seconds", round(time.monotonic() - began))
            hour = floor_hour(datetime.now(UTC)) - HOUR
            assert [(run.run_type, run.state, run.window_start) for run in api.runs(DAG)] == [
                ("scheduled", "success", hour)
            ]
            heard = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr.port == port}
            assert heard <= {"127.0.0.1", "::1"}
