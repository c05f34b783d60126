"""Retries, timeouts and pools by kind of task.

The error's class decides how often a task is retried, after exactly 1, 2 and 4 minutes, so that all
three retries fit the ten-minute SLA. The task's own `retries`, `retry_delay` and multiplier apply
to everything without a class: third-party errors, timeouts, and deaths that no policy sees
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
from include.chimera.flow.cosmos.dbt_events import explain
from include.chimera.flow.delivery.callbacks import tell_failure, tell_late
from include.chimera.flow.timeouts import arm, disarm
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

logger = logging.getLogger(__name__)


class ErrorClassPolicy(RetryPolicy):
    """Retries by the error's class; retry n waits 2^n times the base, counted from 0."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide whether to retry a failed attempt; clearing a task resets the count."""
        ti, error = context["ti"] if context else None, explain(exception)
        if error is not exception and isinstance(error, ChimeraError):
            # Airflow logs only what dbt's runner raised, which does not say what to do.
            logger.error("%s: %s", type(error).__name__, error)
        retries = max_tries if ti is None else int(ti.task.retries or 0)
        done = max(try_number - (max_tries - retries) - 1, 0)
        if done >= allowed_retries(error, retries):
            return RetryDecision.fail()
        _admit_retry(ti)
        return RetryDecision.retry(delay=retry_delay(done))


def allowed_retries(error: BaseException, unclassed: int) -> int:
    """Return how many retries an error allows.

    Args:
        error: What the attempt failed with.
        unclassed: The number for an error that is not ours nor raised from one of ours.
    """
    allowed = own.retries if isinstance(own := cause(error), ChimeraError) else None
    return unclassed if allowed is None else allowed


def _admit_retry(ti: Any) -> None:  # noqa: ANN401 - Airflow's protocol lacks the attribute
    """Allow this retry even beyond the task's own `retries`.

    Airflow asks the policy, and its API server accepts every retry that a task reports. In between,
    though, the task's process checks `should_retry`, which the server derived from `retries` when
    the attempt began (3.3, task_runner._finalize_task_failure). The drills test this; if it stops
    working, `retries` becomes the upper bound for every class.
    """
    told = getattr(ti, "_ti_context_from_server", None)
    if told is not None:
        told.should_retry = True
        # Cosmos makes Airflow store the compiled SQL after an attempt. By then a retried attempt
        # has a new id: Airflow would answer 404, and the task's log would end with that error.
        ti.task.overwrite_rtif_after_execution = False


def retry_delay(done: int) -> timedelta:
    """Return the wait after `done` retries: 1, 2, 4 minutes at the default base."""
    return timedelta(seconds=get_settings().retry_base_seconds * 2**done)


def minutes_of(count: float) -> timedelta:
    """Return a timeout of `count` minutes; tests shorten the minute."""
    return timedelta(seconds=get_settings().timeout_base_seconds * count)


def deadline(dag: DAG) -> DeadlineAlert:
    """Return the SLA: announce a run that has not ended ten minutes after it was queued."""
    return _Deadline(dag)


class _Deadline(DeadlineAlert):
    """A deadline whose definition changes whenever its DAG does (ADR 16).

    If a deadline stays the same, Airflow 3.3.0 keeps its id and creates no record for the DAG's
    new version, whose runs then have no deadline.
    """

    def __init__(self, dag: DAG) -> None:
        # No super().__init__: it would set the callback.
        self.dag, self.name, self.reference = dag, None, DeadlineReference.DAGRUN_QUEUED_AT
        # In seconds, an older form that Airflow still reads: with a timedelta, 3.3.0 answers 500
        # when a run is cleared before its deadline, because it can't move the deadline.
        self.interval = get_settings().deadline_seconds  # type: ignore[assignment]

    @property
    def callback(self) -> SyncCallback:  # type: ignore[override]
        """The callback, carrying Airflow's own hash of the rest of the DAG.

        A property, evaluated when Airflow serializes the DAG: cluster policies and the file's
        location are part of the hash.
        """
        from airflow.serialization.serialized_objects import LazyDeserializedDAG  # noqa: PLC0415 - heavy, and loaded where DAGs are serialized

        rest = copy(self.dag)
        rest.deadline = None
        return SyncCallback(tell_late, {"dag_hash": LazyDeserializedDAG.from_dag(rest).hash})


def task_arguments(retries: int, minutes: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - operator arguments
    """Return the operator arguments for one kind of task."""
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
