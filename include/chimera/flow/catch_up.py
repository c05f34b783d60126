"""Choose the missed hours that run next (docs/adr/0028)."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context, task

from include.chimera.flow.doc_pages import task_pages
from include.chimera.flow.foreign_errors import own_words
from include.chimera.flow.retry_policy import task_arguments
from include.chimera.flow.run_context import HOURLY, begin_task
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from include.chimera.window import Window

CATCH_UP = task_arguments(retries=1, minutes=4)
_ATTEMPTS = 3
_UNFINISHED = ["queued", "running"]


@task(doc_md=task_pages.CHOOSE, **CATCH_UP)
@own_words()
def choose_hours() -> list[dict[str, object]]:
    """Return the arguments of the runs to trigger: the oldest missed hours, as many as are free.

    Every unfinished run of the hourly DAG counts against `catch_up_runs`: the current hour's and a
    person's come first.
    """
    from include.chimera.operations.gaps import missed_hours  # noqa: PLC0415 - heavy

    context = get_current_context()
    begin_task(context)
    ti: Any = context["ti"]
    free = get_settings().catch_up_runs - ti.get_dr_count(HOURLY, states=_UNFINISHED)
    if free <= 0 or ti.get_dag(HOURLY).is_paused:
        return []
    wanted = (_next_run(ti, hour) for hour in missed_hours(datetime.now(UTC)))
    return list(islice(filter(None, wanted), free))


def run_ids(hour: Window) -> list[str]:
    """Return the ids of the runs that may catch up an hour, in the order of its attempts."""
    return [f"catch_up__{hour.labels()[0]}__{number}" for number in range(1, _ATTEMPTS + 1)]


def _next_run(ti: Any, hour: Window) -> dict[str, object] | None:  # noqa: ANN401 - Airflow's protocol lacks the methods
    """Return the arguments of an hour's next run; None: it is not for the catch-up.

    So it is while a run works on it, after the last attempt, and if a task has failed: its data or
    its source are at fault, and a person was told. A run that failed without a failed task was
    interrupted, such as by its timeout while the scheduler was down.
    """
    ids = run_ids(hour)
    runs: tuple[dict[str, list[Any]], ...] = (
        {"logical_dates": [hour.start]},  # of the schedule, or of a backfill
        {"run_ids": ids},
    )
    for each in runs:
        is_at_work = ti.get_dr_count(HOURLY, states=_UNFINISHED, **each)
        if is_at_work or ti.get_ti_count(HOURLY, states=["failed"], **each):
            return None
    unused = next((name for name in ids if not ti.get_dr_count(HOURLY, run_ids=[name])), None)
    bounds = {"window_start": hour.start.isoformat(), "window_end": hour.end.isoformat()}
    return {"trigger_run_id": unused, "conf": bounds} if unused else None
