"""Alerts from Airflow's DAG processor about a task that could say nothing itself."""

import json
import uuid
from datetime import UTC, datetime

import pytest
import structlog
from airflow.api_fastapi.execution_api.datamodels.taskinstance import (
    DagRun,
    TaskInstance,
    TIRunContext,
)
from airflow.callbacks.callback_requests import TaskCallbackRequest
from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.processor import _execute_task_callbacks
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from include.chimera.alerts.outbox import failed_hours
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.paths import PROJECT
from tests.e2e.peers import slack_server

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

DAG_ID, TASK_ID = "chimera_etl_hourly", "extract_models"


@pytest.fixture(scope="module")
def dags():
    """Return the hourly DAG, as the DAG processor holds it."""
    return DagBag(dag_folder=PROJECT / "dags/chimera_etl_hourly.py")


@pytest.fixture
def slack(monkeypatch):
    """Record the messages sent to Slack."""
    with slack_server() as (url, inbox):
        connection = json.dumps({"conn_type": "slackwebhook", "password": url})
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_WEBHOOK", connection)
        yield inbox


def run_of_nine():
    hour = datetime(2026, 1, 5, 9, tzinfo=UTC)
    return DagRun(
        dag_id=DAG_ID,
        run_id="scheduled__9",
        logical_date=hour,
        data_interval_start=hour,
        data_interval_end=hour.replace(hour=10),
        run_after=hour.replace(hour=10),
        start_date=hour.replace(hour=10),
        end_date=None,
        run_type="scheduled",
        state="running",
        conf={},
        consumed_asset_events=[],
        partition_key=None,
    )


def lose(dags, try_number):
    """Miss an attempt's heartbeat; the request names no kind of callback (Airflow 3.3.0)."""
    run, retries = run_of_nine(), dags.dags[DAG_ID].get_task(TASK_ID).retries
    request = TaskCallbackRequest(
        filepath="chimera_etl_hourly.py",
        bundle_name="dags-folder",
        bundle_version=None,
        ti=TaskInstance(
            id=uuid.uuid4(),
            dag_id=DAG_ID,
            task_id=TASK_ID,
            run_id=run.run_id,
            try_number=try_number,
            dag_version_id=uuid.uuid4(),
        ),
        context_from_server=TIRunContext(
            dag_run=run, max_tries=retries, variables=[], connections=[], xcom_keys_to_clear=[]
        ),
    )
    _execute_task_callbacks(dags, request, structlog.get_logger())
    return retries


def test_a_lost_attempt_that_is_tried_again_is_no_failure(dags, slack) -> None:
    """Airflow calls the failure callback whether or not the task has retries left."""
    assert lose(dags, try_number=1) > 0
    assert slack.taken == []
    assert failed_hours() == []


def test_the_last_attempt_that_is_lost_is_told_once(dags, slack) -> None:
    """Detected twice before its callback ran: one alert, with its table and those downstream."""
    retries = lose(dags, try_number=1)
    for _ in range(2):
        lose(dags, try_number=retries + 1)
    assert len(slack.find("extract_models failed")) == len(slack.taken) == 1
    assert slack.find("bronze.models stays at no version yet", "gold.dim_models")
    assert len(failed_hours()) == 1


@pytest.mark.parametrize("is_full", [False, True])
def test_a_lake_that_keeps_no_marks_makes_no_failure_a_sudden_death(
    dags, slack, lake, monkeypatch, is_full
) -> None:
    """Its tasks have told what failed; of a killed one nobody can know."""
    run = run_of_nine()
    states = {run.run_id: {TASK_ID: "failed", "extract_generations": "success"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda *_, **__: states)
    if is_full:
        lake.mkdir(exist_ok=True)
        (lake / "_alerts").write_text("no folder")
    about = {"dag_run": run, "params": {}, "dag": dags.dags[DAG_ID], "reason": "task_failure"}
    tell_run_failure(about)
    assert len(slack.taken) == 1
    assert bool(slack.find("sudden death", "extract_models failed")) is not is_full
    assert bool(slack.find("the run failed", TASK_ID, "storage take files")) is is_full
