"""No task waits for ever for a pool: the scheduler creates those that a Deployment lacks."""

import json
import os
import subprocess
import sys

import pytest

from include.chimera.paths import PROJECT

pytestmark = pytest.mark.integration

PROGRAM = """
import json, sys
from airflow.models.pool import Pool
from airflow.utils.db import initdb
from airflow.utils.session import create_session
initdb()
def pools():
    with create_session() as session:
        return {pool.pool: pool.slots for pool in Pool.get_pools(session=session)}
from airflow.listeners.listener import get_listener_manager
from airflow.sdk.execution_time.task_runner import TaskRunnerMarker
def start(command, component=None):
    sys.argv = ["airflow", command]
    get_listener_manager().hook.on_starting(component=component)
    return pools()
told = [start("api-server"), start("scheduler")]
with create_session() as session:
    Pool.delete_pool("app_db", session=session)
    Pool.create_or_update_pool("duckdb", 9, "", False, session=session)
told += [start("scheduler", TaskRunnerMarker()), start("scheduler")]
print(json.dumps(told))
"""


def test_a_scheduler_creates_the_pools_that_are_missing_and_leaves_the_others(tmp_path) -> None:
    place = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "CHIMERA_WARM_START": "false",
        "PYTHONPATH": str(PROJECT),
    }
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **place},  # noqa: TID251 - a child inherits
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    other, first, in_its_task, again = json.loads(done.stdout.splitlines()[-1])
    assert set(other) == {"default_pool"}
    assert first == {**other, "app_db": 3, "duckdb": 4}
    assert in_its_task == {**other, "duckdb": 9}, "a task has no database"
    assert again == {**other, "app_db": 3, "duckdb": 9}
