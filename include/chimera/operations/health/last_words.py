"""What a task said last: the error that ended its newest attempt, from its own log."""

from __future__ import annotations

from functools import lru_cache

from include.chimera.operations.log_search import LogQuery, search_logs
from include.chimera.settings import get_settings

_LONGEST = 1200


@lru_cache(maxsize=256)
def last_words(run_id: str, task_id: str, try_number: int) -> str:
    """Return the last error of a task's newest attempt; "": its log holds none.

    Only our own errors' words are in there, which hold no row (see `flow.foreign_errors`).

    Args:
        run_id: Airflow's run id.
        task_id: With its group.
        try_number: The attempt, so that the next one is read anew.
    """
    root = f"{get_settings().task_logs}/dag_id=chimera_etl_hourly/run_id={run_id}/task_id={task_id}"
    del try_number
    lines = search_logs(LogQuery(level="error", limit=1), root)
    return (lines[-1].event or "")[:_LONGEST] if lines else ""
