"""`make sources` and `astro dev start --standalone` end in a green hour, on loopback alone.

Neither astro nor Docker is needed: Airflow is started as astro's command line does it.
Source: astro-cli, airflow/standalone.go and pkg/airflowrt/env.go.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil
import pytest

from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.ports import choose_port
from include.chimera.window import HOUR, floor_hour
from tests.e2e.airflow_alone import BIN, DAG, MINUTES, inherited, running, wait
from tests.e2e.astro.compose import settings_commands
from tests.e2e.clones import fresh_clone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.long]

VARIABLES = ".chimera/astro.env"


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
        standalone = running([f"{BIN}/airflow", "standalone"], logs[1], cwd=clone, env=variables)
        with standalone, closing(AirflowApi(url)) as api:
            wait(api.is_up, MINUTES, *logs)
            for words in settings_commands(clone):
                command = [f"{BIN}/{words[0]}", *words[1:]]
                subprocess.run(  # noqa: S603 - fixed
                    command, cwd=clone, env=variables, check=True, capture_output=True
                )
            wait(lambda: api.parsed_at(DAG) is not None, MINUTES, *logs)
            wait(lambda: any(run.is_over for run in api.runs(DAG)), MINUTES, *logs)
            record_property("seconds", round(time.monotonic() - began))
            hour = floor_hour(datetime.now(UTC)) - HOUR
            assert [(run.run_type, run.state, run.window_start) for run in api.runs(DAG)] == [
                ("scheduled", "success", hour)
            ]
            heard = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr.port == port}
            assert heard <= {"127.0.0.1", "::1"}
