"""Turn Airflow's context into the `Run` that the inner rings know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from include.chimera.errors import ConfigurationError
from include.chimera.flow.connections import reach_store
from include.chimera.observe.logs import bind_run
from include.chimera.window import HOUR, Run, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

HOURLY = "chimera_etl_hourly"  # the DAG whose runs publish hours
_LONGEST = timedelta(days=31)


def begin_task(context: Mapping[str, Any]) -> Run:
    """Set up a task, as `enter_run` does, and return its run.

    Raises:
        ConfigurationError: The params give only one end of a window.
        TerminalError: The window does not consist of whole hours.
    """
    return enter_run(context["dag_run"], context["params"], context["ti"].task_id)


def run_json(dag_run: Any, params: Mapping[str, Any], task_id: str) -> str:  # noqa: ANN401 - Airflow's DagRun
    """Set up a dbt task and return its run as JSON, for its CHIMERA_RUN variable.

    A template macro: Airflow renders it in the task's own process before dbt starts.
    """
    return TypeAdapter(Run).dump_json(enter_run(dag_run, params, task_id)).decode()


def enter_run(dag_run: Any, params: Mapping[str, Any], task_id: str = "") -> Run:  # noqa: ANN401 - Airflow's DagRun
    """Set the lake's credentials, bind the run to this process's log lines, and return it."""
    reach_store()
    run = read_run(dag_run, params)
    bind_run(run, source_of(task_id))
    return run


def source_of(task_id: str) -> str:
    """Return the subject of a task: its id without group and verb."""
    return task_id.rpartition(".")[2].partition("_")[2]


def read_run(dag_run: Any, params: Mapping[str, Any]) -> Run:  # noqa: ANN401 - Airflow's DagRun
    """Return the `Run` of a DAG run.

    The window comes from the params, else from a data interval of an hour or more, else it is the
    last full hour before `run_after`.

    Only scheduled runs move watermarks: backfills and manual windows leave them alone.
    """
    asked = [params.get("window_start"), params.get("window_end")]
    is_scheduled = str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "scheduled"
    if any(asked):
        return Run(dag_run.run_id, _asked_window(asked), moves_watermark=False)
    start, end = dag_run.data_interval_start, dag_run.data_interval_end
    if start is not None and end - start >= HOUR:
        window = Window(start, end)
    else:
        window = Window.of_hour(dag_run.run_after - HOUR)
    return Run(dag_run.run_id, window, moves_watermark=is_scheduled)


def _asked_window(asked: list[str | None]) -> Window:
    start, end = asked
    if not start or not end:
        raise ConfigurationError(
            expected="window_start and window_end",
            came="only one of them",
            where="the run's params",
            remedy="trigger again with both, or with neither for the last full hour",
        )
    window = Window.parse(start, end)
    if window.end > datetime.now(UTC) + HOUR or window.end - window.start > _LONGEST:
        # Few runs go at a time, and the sensors would wait for data that can't exist yet.
        raise ConfigurationError(
            expected=f"a window that has passed, of at most {_LONGEST.days} days",
            came=str(window),
            where="the run's params",
            remedy="trigger it once it has passed; longer spans month by month, or as a backfill",
        )
    return window
