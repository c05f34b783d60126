"""What a scheduler holds before it forks its first task."""

import json
import os
import re
import subprocess
import sys

import pytest

from include.chimera.flow.retry_policy import DBT, EXTRACT, GATE, UPKEEP
from include.chimera.local.servers.environment import CELERY_CONFIG
from include.chimera.paths import PROJECT

pytestmark = pytest.mark.integration

HELD = """
from include.chimera.flow.warm_start.warm_up import PARSING, WORKING
from include.chimera.lake.store.duckdb_sessions import check_signature
from dbt.contracts.graph.manifest import Manifest
from dbt_common.clients.jinja import template_cache
from multiprocessing import resource_tracker
print(json.dumps({
    "missing": [name for name in PARSING + WORKING if name not in sys.modules],
    "macros": len(template_cache.file_cache),
    "threads": [each.name for each in threading.enumerate() if each is not threading.main_thread()],
    "signatures": check_signature.cache_info().currsize,
    "frozen": gc.get_freeze_count() > 0,
    "names_locks": resource_tracker._resource_tracker._fd is not None,
    "lock": Manifest()._lock._semlock.name,
}))
"""
BEGIN = """
import gc, json, logging, os, sys, threading
logging.basicConfig(level="WARNING", stream=sys.stderr)
"""
SCHEDULER = """
sys.argv = ["airflow", "scheduler"]
from plugins.warm_start import WarmStart
WarmStart().on_starting(None)
"""
# A fork of it, for one task.
TASK = """
sys.argv = ["airflow", "scheduler"]
from airflow.sdk.execution_time.task_runner import TaskRunnerMarker
from plugins.warm_start import WarmStart
WarmStart().on_starting(TaskRunnerMarker())
"""
# What a worker does before it forks its pool.
CELERY_WORKER = """
from airflow.providers.celery.executors.celery_executor_utils import app
app.loader.init_worker()
"""

CELERY_APP = """
from airflow.providers.celery.executors.celery_executor_utils import app
print(json.dumps(app.conf.broker_transport_options)); sys.exit()
"""


def held(start, **variables):
    """Return what a process holds once it has started as a component does, and its complaints."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", BEGIN + start + HELD],
        cwd=PROJECT,
        env={**os.environ, **variables},  # noqa: TID251 - a child inherits
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def image_variable(name):
    """Return a variable of the Dockerfile's ENV."""
    (value,) = re.findall(rf"\b{name}='(.*)'", (PROJECT / "Dockerfile").read_text())
    return value


@pytest.mark.parametrize("start", [SCHEDULER, CELERY_WORKER], ids=["scheduler", "celery worker"])
def test_who_forks_tasks_holds_all_that_they_need_and_starts_no_thread(start):
    name = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
    told, complaints = held(start, **{name: image_variable(name)})
    assert told["missing"] == told["threads"] == []
    assert told["macros"] > 500
    assert told["signatures"] == 1
    assert told["frozen"]
    assert not told["names_locks"], "each task would leave its own in /dev/shm"
    assert told["lock"] is None
    assert "could not" not in complaints


def test_a_message_comes_back_to_the_queue_only_when_no_task_can_still_run():
    """A redelivered message would start a healthy task a second time."""
    name = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
    assert json.loads(image_variable(name)) == CELERY_CONFIG
    kinds = (EXTRACT, GATE, DBT, UPKEEP)
    longest = max(kind["execution_timeout"].total_seconds() for kind in kinds)
    options, _ = held(
        CELERY_APP, **{name: image_variable(name), "AIRFLOW__CELERY__BROKER_URL": "redis://"}
    )
    assert options["visibility_timeout"] > 1.5 * longest


def test_a_scheduler_that_forks_no_task_holds_none_of_it():
    told, _ = held(SCHEDULER, AIRFLOW__CORE__EXECUTOR="CeleryExecutor")
    assert "dbt.cli.main" in told["missing"]
    assert told["macros"] == told["signatures"] == 0


def test_a_task_does_not_warm_up_once_more():
    """Airflow tells listeners of its start too, in a fork with the scheduler's command line."""
    told, _ = held(TASK)
    assert told["missing"]
    assert told["macros"] == told["signatures"] == 0


def test_the_setting_turns_it_off():
    name = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
    off = {name: image_variable(name), "CHIMERA_WARM_START": "false"}
    told, _ = held(CELERY_WORKER, **off)
    assert told["missing"]
    assert told["macros"] == told["signatures"] == 0
