"""What a task said last: the error that ended its newest attempt, from its own log."""

from __future__ import annotations

import json
from functools import lru_cache

from include.chimera.alerts.causes import Fault
from include.chimera.observe.logs import describe_error, is_ours
from include.chimera.operations.log_search import LogQuery, search_logs
from include.chimera.settings import get_settings

_LONGEST, _LINES = 1200, 20
_CALLBACK = "Failed to run task callback"


def last_words(run_id: str, task_id: str, try_number: int) -> str:
    """Return the last error of a failed task's newest attempt, else that its process was killed.

    Only our own errors' words are in there, which hold no row (see `flow.foreign_errors`).

    Args:
        run_id: Airflow's run id.
        task_id: With its group.
        try_number: The attempt.
    """
    try:
        return _said(run_id, task_id, try_number)
    except LookupError:
        death = Fault.of(None)
        return f"{death.name}: {death.text}\nNext: {death.steps[0]}"


@lru_cache(maxsize=256)
def _said(run_id: str, task_id: str, try_number: int) -> str:
    """Return the last error in an attempt's log.

    Raises:
        LookupError: The log holds none, or has not come yet; this is not kept.
    """
    root = f"{get_settings().task_logs}/dag_id=chimera_etl_hourly/run_id={run_id}/task_id={task_id}"
    found = search_logs(LogQuery(level="error", limit=_LINES), root)
    # Of former attempts nothing, and nothing of a callback that failed after the task.
    lines = [
        line
        for line in found
        if f"/attempt={try_number}.log" in line.filename and line.event != _CALLBACK
    ]
    events = [line.event or "" for line in lines]
    raised = [describe_error(json.loads(line.json), "its log") for line in lines]
    # Airflow logs what dbt's runner raised; the retry policy, in an event, what that came from.
    ours = [text for pair in zip(events, raised, strict=True) for text in pair if is_ours(text)]
    # Without an exception it is what Airflow says of a process that was killed.
    return (ours or [text for text in raised if text])[-1][:_LONGEST]
