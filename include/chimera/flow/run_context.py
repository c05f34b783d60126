"""From Airflow's context to the `Run` that the rings below know."""

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

_LONGEST = timedelta(days=31)


def begin_task(context: Mapping[str, Any]) -> Run:
    """Begin a task, as `enter_run` does, and return the run that it works for.

    Raises:
        ConfigurationError: The params name half a window.
        TerminalError: The window is no span of whole hours.
    """
    return enter_run(context["dag_run"], context["params"], context["ti"].task_id)


def run_json(dag_run: Any, params: Mapping[str, Any], task_id: str) -> str:  # noqa: ANN401 - Airflow's DagRun
    """Begin a dbt task and return its run as JSON, the value of its CHIMERA_RUN.

    A template macro: Airflow renders it in the task's own process, before dbt starts.
    """
    return TypeAdapter(Run).dump_json(enter_run(dag_run, params, task_id)).decode()


def enter_run(dag_run: Any, params: Mapping[str, Any], task_id: str = "") -> Run:  # noqa: ANN401 - Airflow's DagRun
    """Bring the lake within reach, bind the run to this process' log lines, and return it."""
    reach_store()
    run = read_run(dag_run, params)
    bind_run(run, source_of(task_id))
    return run


def source_of(task_id: str) -> str:
    """Return what a task works for: its id without its group and its verb."""
    return task_id.rpartition(".")[2].partition("_")[2]


def read_run(dag_run: Any, params: Mapping[str, Any]) -> Run:  # noqa: ANN401 - Airflow's DagRun
    """Return the run of a DAG run.

    The window comes from the params, else from the data interval, else from the clock.

    Only the schedule moves watermarks: backfills and windows asked for by hand leave them alone.
    """
    asked = [params.get("window_start"), params.get("window_end")]
    is_scheduled = str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "scheduled"
    if any(asked):
        return Run(dag_run.run_id, _asked_window(asked), moves_watermark=False)
    if dag_run.data_interval_start is not None:
        window = Window(dag_run.data_interval_start, dag_run.data_interval_end)
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
        # One run at a time has the slot, and the sensors would wait for what can't be there.
        raise ConfigurationError(
            expected=f"a window that has passed, of at most {_LONGEST.days} days",
            came=str(window),
            where="the run's params",
            remedy="trigger it once it has passed; longer spans month by month, or as a backfill",
        )
    return window
