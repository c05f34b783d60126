"""The sensor's look and its trigger, without a scheduler."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.sdk.module_loading import import_string

from include.chimera.errors import SourceLateError, SourceUnavailableError
from include.chimera.settings import get_settings
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from include.chimera.window import HOUR
from plugins.source_sensor import SourceSensor, SourceTrigger, lacks

END = datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Return a log file of the hour before END that grows now."""
    monkeypatch.setenv("CHIMERA_API_LOGS_ROOT", str(tmp_path))
    get_settings.cache_clear()
    path = tmp_path / "dt=2026-03-01" / "hour=09" / "api.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    yield path
    get_settings.cache_clear()


def sensor():
    return SourceSensor(task_id="wait_for_api_logs", source="api_logs", tables=["bronze.api_logs"])


def context(**params):
    dag_run = SimpleNamespace(
        run_id="scheduled__1",
        run_type="scheduled",
        data_interval_start=END - HOUR,
        data_interval_end=END,
    )
    return {
        "dag_run": dag_run,
        "params": params,
        "ti": SimpleNamespace(task_id="wait_for_api_logs"),
    }


def outcome(trigger):
    """Run a trigger to its one event."""

    async def first():
        return await anext(aiter(trigger.run()))

    return asyncio.run(first()).payload


def test_a_complete_hour_is_not_deferred(log) -> None:
    (log.parent / "_SUCCESS").touch()
    assert sensor().execute(context()) is None


@pytest.mark.usefixtures("log")
def test_an_hour_that_is_not_asked_for_is_not_looked_at() -> None:
    with pytest.raises(AirflowSkipException):
        sensor().execute(context(sources=["bronze.models"]))


def test_a_late_source_is_waited_for_by_a_trigger_that_any_triggerer_can_make(log) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        sensor().execute(context())
    path, arguments = deferred.value.trigger.serialize()
    again = import_string(path)(**arguments)
    assert isinstance(again, SourceTrigger)
    assert (again.source, again.end) == ("api_logs", END)
    assert timedelta(seconds=290) < again.until - datetime.now(UTC) <= timedelta(seconds=300)
    (log.parent / "_SUCCESS").touch()
    assert outcome(again) == ""
    assert deferred.value.method_name == "arrive"
    assert sensor().arrive(context(), "") is None


@pytest.mark.usefixtures("log")
def test_a_source_that_stays_late_is_named_with_what_it_lacks() -> None:
    event = outcome(SourceTrigger("api_logs", END, datetime.now(UTC), 0.01))
    with pytest.raises(SourceLateError, match=r"all of api_logs until 2026-03-01T10.*1 files"):
        sensor().arrive(context(), event)


@pytest.mark.usefixtures("log")
def test_the_trigger_looks_without_blocking_the_others() -> None:
    """The event loop of all triggers turns while it looks and waits."""

    async def beside():
        turns = 0
        until = datetime.now(UTC) + timedelta(seconds=0.3)
        trigger = SourceTrigger("api_logs", END, until, 0.05)
        waiting = asyncio.ensure_future(anext(aiter(trigger.run())))
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    assert asyncio.run(beside()) > 10


def test_a_source_that_does_not_answer_is_left_to_its_extract(tmp_path, caplog) -> None:
    """And is told without its address or password."""
    uri = f"postgresql://reader:hunter2@/app?host={tmp_path}"  # pragma: allowlist secret
    assert lacks("app_db", uri, END) == ""
    assert "app_db does not answer" in caplog.text
    assert "hunter2" not in caplog.text
    assert lacks("prometheus", PrometheusServer("http://127.0.0.1:9"), END) == ""


def test_logs_that_can_not_be_seen_are_no_empty_hour(log) -> None:
    """The sensor fails with the path, in its worker or, if they vanish later, in the triggerer."""
    trigger = SourceTrigger("api_logs", END, datetime.now(UTC) + HOUR, 0.01)
    folder = log.parents[1]
    folder.rename(folder.with_name("away"))
    folder.symlink_to("nowhere")
    with pytest.raises(SourceUnavailableError, match="dt=2026-03-01"):
        sensor().execute(context())
    event = json.loads(json.dumps(outcome(trigger)))
    with pytest.raises(SourceUnavailableError, match=r"dt=2026-03-01.*triggerer"):
        sensor().arrive(context(), event)


@pytest.mark.usefixtures("log")
def test_a_look_that_never_returns_ends_with_the_deferral() -> None:
    """Airflow ends it; the task says which source hangs and is not tried again."""
    with pytest.raises(TaskDeferred) as deferred:
        sensor().execute(context())
    assert timedelta(seconds=300) < deferred.value.timeout <= timedelta(seconds=600)
    with pytest.raises(SourceLateError, match="did not return"):
        sensor().resume_execution(
            TRIGGER_FAIL_REPR, {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, context()
        )
