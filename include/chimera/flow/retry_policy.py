"""Retries, timeouts and pools by kind of task.

The error's class decides how often a task is tried again; delays are exactly 1, 2, 4 minutes, so
that all three fit the ten-minute SLA. `retries`, by kind of task, with `retry_delay` and the
multiplier are for what has no class: errors of others, timeouts, and deaths that no policy sees
(SIGKILL, a lost heartbeat).
"""

from __future__ import annotations

import logging
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from include.chimera.alerts.causes import cause
from include.chimera.errors import ChimeraError
from include.chimera.flow.cosmos.failures import explain
from include.chimera.flow.delivery.callbacks import tell_failure, tell_late
from include.chimera.flow.watchdog import arm, disarm
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

logger = logging.getLogger(__name__)


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
        ti, error = context["ti"] if context else None, explain(exception)
        if error is not exception and isinstance(error, ChimeraError):
            # Airflow's log has what dbt's runner raised, which does not say what to do.
            logger.error("%s: %s", type(error).__name__, error)
        retries = max_tries if ti is None else int(ti.task.retries or 0)
        done = max(try_number - (max_tries - retries) - 1, 0)
        if done >= allowed_retries(error, retries):
            return RetryDecision.fail()
        _admit_retry(ti)
        return RetryDecision.retry(delay=retry_delay(done))


def allowed_retries(error: BaseException, unclassed: int) -> int:
    """Return how often a task may be tried again after this error.

    Args:
        error: What the attempt failed with.
        unclassed: What an error is allowed that is not ours, nor raised from one.
    """
    allowed = own.retries if isinstance(own := cause(error), ChimeraError) else None
    return unclassed if allowed is None else allowed


def _admit_retry(ti: Any) -> None:  # noqa: ANN401 - Airflow's protocol lacks the attribute
    """Let this retry be more than the task's own `retries`.

    Airflow asks the policy, and its API server takes every retry that a task reports. But in
    between a task's process compares the attempts with `retries`, as the server did when the
    attempt began (3.3, task_runner._finalize_task_failure). The drills prove that this works; if
    it ceases to, `retries` bounds the classes too.
    """
    told = getattr(ti, "_ti_context_from_server", None)
    if told is not None:
        told.should_retry = True
        # Cosmos lets Airflow store the compiled SQL when an attempt is over. One that is retried
        # has a new id by then: Airflow's answer is 404, and the task's log would end with that.
        ti.task.overwrite_rtif_after_execution = False


def retry_delay(done: int) -> timedelta:
    """Return the wait after `done` retries: 1, 2, 4 minutes at the default base."""
    return timedelta(seconds=get_settings().retry_base_seconds * 2**done)


def minutes_of(count: float) -> timedelta:
    """Return a timeout; the base is a minute but in tests."""
    return timedelta(seconds=get_settings().timeout_base_seconds * count)


def deadline(dag: DAG) -> DeadlineAlert:
    """Return the SLA: a run that is not over ten minutes after it was queued is told."""
    return _Deadline(dag)


class _Deadline(DeadlineAlert):
    """A deadline whose definition changes whenever anything of its DAG does (ADR 16).

    Of one that stays as it was Airflow 3.3.0 keeps the id and makes no record for the DAG's new
    version: none of that version's runs would have a deadline.
    """

    def __init__(self, dag: DAG) -> None:
        # Not super's: it sets the callback.
        self.dag, self.name, self.reference = dag, None, DeadlineReference.DAGRUN_QUEUED_AT
        # Seconds, as Airflow stored it once and still reads: of a timedelta, 3.3.0 can't move the
        # deadline when a run is cleared before it, and answers 500.
        self.interval = get_settings().deadline_seconds  # type: ignore[assignment]

    @property
    def callback(self) -> SyncCallback:  # type: ignore[override]
        """The callback, with Airflow's own hash of the rest of the DAG.

        Taken when Airflow serializes the DAG: policies and the file's place belong to it.
        """
        from airflow.serialization.serialized_objects import LazyDeserializedDAG  # noqa: PLC0415 - heavy, and loaded where DAGs are serialized

        rest = copy(self.dag)
        rest.deadline = None
        return SyncCallback(tell_late, {"dag_hash": LazyDeserializedDAG.from_dag(rest).hash})


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
