"""A run's window comes from its params, its data interval, or the clock."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from include.chimera.errors import ConfigurationError, StageMissingError, TerminalError
from include.chimera.flow.delivery.callbacks import judged_tables
from include.chimera.flow.gate_operator import gate_task
from include.chimera.flow.run_context import begin_task, run_json
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import read_record, write_record
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.settings import Settings

HOUR = datetime(2026, 1, 1, 5, tzinfo=UTC)


def context(params: dict | None = None, **fields: object) -> dict:
    """Return what the window depends on, of a scheduled run of one hour."""
    dag_run = {
        "run_id": "a_run",
        "run_type": "scheduled",
        "data_interval_start": HOUR,
        "data_interval_end": HOUR.replace(hour=6),
        "run_after": HOUR.replace(hour=6),
        **fields,
    }
    ti = SimpleNamespace(task_id="extract_generations")
    return {"dag_run": SimpleNamespace(**dag_run), "params": params or {}, "ti": ti}


def asked(start: str | None, end: str | None) -> dict:
    """Return the params of a run triggered by hand."""
    return {"window_start": start, "window_end": end}


def test_scheduled_run_works_on_its_data_interval_and_moves_watermarks() -> None:
    """The normal hour."""
    run = begin_task(context())
    assert (run.window.labels(), run.moves_watermark) == (["20260101T05"], True)


@pytest.mark.parametrize("run_type", ["backfill", "manual"])
def test_other_runs_leave_watermarks_alone(run_type: str) -> None:
    """The schedule alone knows that nothing before it is missing."""
    assert begin_task(context(run_type=run_type)).moves_watermark is False


def test_run_of_less_than_an_hour_is_about_the_last_full_one() -> None:
    """The catch-up looks every five minutes."""
    minutes = {"data_interval_start": HOUR.replace(minute=55)}
    run = begin_task(context(**minutes))
    assert run.window.labels() == ["20260101T05"]


def test_run_without_an_interval_takes_the_last_full_hour() -> None:
    """A manual trigger may have no logical date."""
    run = begin_task(
        context(
            run_type="manual",
            data_interval_start=None,
            data_interval_end=None,
            run_after=HOUR.replace(minute=42),
        )
    )
    assert run.window.labels() == ["20260101T04"]


def test_params_win_and_may_span_hours() -> None:
    """Whatever zone they are written in."""
    params = asked("2026-01-01T02:00:00+01:00", "2026-01-01T03:00:00Z")
    run = begin_task(context(params))
    assert (run.window.labels(), run.moves_watermark) == (["20260101T01", "20260101T02"], False)


@pytest.mark.parametrize(
    ("start", "end", "error"),
    [
        ("2026-01-01T02:00:00Z", None, ConfigurationError),
        (None, "2026-01-01T02:00:00Z", ConfigurationError),
        ("2026-01-01T02:30:00Z", "2026-01-01T03:30:00Z", TerminalError),
        ("2026-01-01T03:00:00Z", "2026-01-01T02:00:00Z", TerminalError),
        ("2026-01-01T02:00:00", "2026-01-01T03:00:00", TerminalError),
        ("2126-01-01T02:00:00Z", "2126-01-01T03:00:00Z", ConfigurationError),
        ("2025-12-01T00:00:00Z", "2026-01-01T01:00:00Z", ConfigurationError),
    ],
)
def test_windows_that_make_no_sense_are_refused(
    start: str | None, end: str | None, error: type[Exception]
) -> None:
    """Half a window, ragged hours, backwards, no zone, not yet, without end: without retry."""
    with pytest.raises(error):
        begin_task(context(asked(start, end)))


def test_dbt_gets_the_same_run_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the template renders is what Settings reads."""
    found = context()
    monkeypatch.setenv("CHIMERA_RUN", run_json(found["dag_run"], found["params"], "build_x"))
    assert Settings().run == begin_task(found)


def test_only_gates_that_ended_in_this_attempt_have_judged(monkeypatch) -> None:
    """Of a gate that could not start since the clearing, a former attempt's verdict may be left."""
    states = {
        "gate_bronze_models": "success",
        "gate_silver_stg_app__models": "failed",
        "gate_gold_dim_models": "upstream_failed",
        "gate_bronze_api_logs": "skipped",
        "gate_gold_left_the_pipeline": "removed",
        "build_dim_models": "success",
    }
    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", lambda _, run_ids: {run_ids[0]: states}
    )
    with DAG("etl", schedule=None) as dag:
        with TaskGroup("bronze", prefix_group_id=False):
            gate_task("bronze.models")
            gate_task("bronze.api_logs")
        gate_task("silver.stg_app__models")
        gate_task("gold.dim_models")
        EmptyOperator(task_id="build_dim_models")
    found = {"dag": dag, "dag_run": SimpleNamespace(dag_id="etl", run_id="one")}
    assert judged_tables(found) == {"bronze.models", "silver.stg_app__models"}


@pytest.mark.usefixtures("lake")
def test_a_gate_takes_back_what_it_said_before_it_judges_again() -> None:
    """Whatever becomes of it then, its table is not told as judged or published."""
    table = "bronze.models"
    run = begin_task(context())
    write_record(run, table, Publication(table, 1, 1, 0, 0, 0))
    write_record(run, table, Verdict(table, "r", run.window, True, (), 1, 0, (), 1.0, HOUR))
    with pytest.raises(StageMissingError):
        gate_task(table).execute(context())
    assert [read_record(run, table, kind) for kind in (Verdict, Publication)] == [None, None]
