"""The sample application begins the schedule of an Airflow that somebody else has started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from include.chimera.local.sample_service import begin_schedule
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.ports import choose_port
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SETTINGS = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]
HOURLY, BY_HAND = "chimera_etl_hourly", "chimera_dead_letter_replay"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowApi]:
    """Start an API server as astro does, which takes everybody for an admin; all DAGs are known."""
    home, port = tmp_path_factory.mktemp("airflow"), choose_port(0)
    auth = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    env = {
        **os.environ,  # noqa: TID251 - a child inherits
        "PYTHONPATH": str(PROJECT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__AUTH_MANAGER": auth,
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CHIMERA_WARM_START": "False",
    }
    airflow = [sys.executable, "-m", "airflow"]
    for words in (["db", "migrate"], ["dag-processor", "--num-runs", "1"]):
        subprocess.run([*airflow, *words], env=env, cwd=home, check=True, capture_output=True)  # noqa: S603 - fixed
    with (home / "log").open("wb") as log:
        command = [*airflow, "api-server"]
        server = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log)  # noqa: S603 - fixed
    api = AirflowApi(f"http://127.0.0.1:{port}")
    try:
        wait_for(api, home / "log")
        yield api
    finally:
        api.close()
        server.terminate()
        server.wait(timeout=60)


def wait_for(api: AirflowApi, log: Path) -> None:
    deadline = time.monotonic() + 300
    while not api.is_up():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.5)


def test_the_schedule_begins_once_when_airflow_knows_what_tasks_need(api: AirflowApi) -> None:
    """astro adds connections last; a run that began before would fail for want of them."""
    begun: set[str] = set()
    begin_schedule(api, begun)
    api.set_pools(SETTINGS["pools"])
    begin_schedule(api, begun)  # the pool app_db does not stand for the connection of that name
    assert not begun
    for connection in SETTINGS["connections"]:
        body = {"connection_id": connection["conn_id"], "conn_type": connection["conn_type"]}
        api._request("POST", "/connections", json=body)
    begin_schedule(api, begun)
    assert HOURLY in begun
    assert BY_HAND not in begun
    assert api.paused() == []
    api.set_paused(HOURLY, is_paused=True)
    begin_schedule(api, begun)
    assert api.paused() == [HOURLY]
