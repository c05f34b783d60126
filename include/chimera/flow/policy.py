"""Retries, timeouts and pools by kind of task.

The error's class decides how often a task is tried again; delays are exactly 1, 2, 4 minutes, so
that all three fit the ten-minute SLA. `retries`, `retry_delay` and the multiplier say the same to
Airflow for deaths that no policy sees (SIGKILL, a lost heartbeat).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from include.chimera.alerts.faults import cause
from include.chimera.errors import DataFaultError, TerminalError
from include.chimera.flow.dbt_failures import explain
from include.chimera.flow.notices import tell_failure, tell_late
from include.chimera.flow.watchdog import arm, disarm
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

_RETRYABLE, _DATA_FAULT, _TERMINAL = 3, 1, 0


class ErrorClassPolicy(RetryPolicy):
    """Retries by the class of the error, with delays of 2^n times the base."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide on a failed attempt; clearing a task starts the count anew."""
        configured = context["ti"].task.retries if context else None
        retries = max_tries if configured is None else int(configured)
        done = max(try_number - (max_tries - retries) - 1, 0)
        allowed = min(allowed_retries(explain(exception)), retries)
        if done >= allowed:
            return RetryDecision.fail()
        return RetryDecision.retry(delay=retry_delay(done))


def allowed_retries(error: BaseException) -> int:
    """Return how often a task may be tried again after this error; an unknown one may pass."""
    error = cause(error)
    if isinstance(error, TerminalError):
        return _TERMINAL
    if isinstance(error, DataFaultError):
        return _DATA_FAULT
    return _RETRYABLE


def retry_delay(done: int) -> timedelta:
    """Return the wait after `done` retries: 1, 2, 4 minutes at the default base."""
    return timedelta(seconds=get_settings().retry_base_seconds * 2**done)


def minutes_of(count: float) -> timedelta:
    """Return a timeout; the base is a minute but in tests."""
    return timedelta(seconds=get_settings().timeout_base_seconds * count)


def deadline() -> DeadlineAlert:
    """Return the SLA: a run that is not over ten minutes after it was queued is told."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=get_settings().deadline_seconds),
        callback=SyncCallback(tell_late),
    )


def task_arguments(retries: int, minutes: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - operator arguments
    """Return the operator arguments of one kind of task."""
    return {
        "retries": retries,
        "retry_delay": retry_delay(0),
        "retry_exponential_backoff": 2.0,
        "retry_policy": ErrorClassPolicy(),
        "execution_timeout": minutes_of(minutes),
        "pre_execute": arm,
        "post_execute": disarm,
        "on_retry_callback": disarm,
        "on_failure_callback": [disarm, tell_failure],
        **more,
    }


EXTRACT = task_arguments(retries=3, minutes=4)
GATE = task_arguments(retries=1, minutes=3, pool="duckdb")
DBT = task_arguments(retries=1, minutes=5, pool="duckdb")
UPKEEP = task_arguments(retries=1, minutes=4, pool="duckdb")
