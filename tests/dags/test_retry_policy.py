"""Retries by the class of the error, with delays of exactly 1, 2, 4 minutes."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, RetryAction
from airflow.serialization.decoders import decode_deadline_alert
from airflow.serialization.encoders import encode_deadline_alert

from include.chimera.errors import CommitConflictError, ContractError, GateFailedError
from include.chimera.flow import retry_policy
from include.chimera.flow.retry_policy import ErrorClassPolicy, deadline
from include.chimera.settings import get_settings

PARTS = {"expected": "a", "came": "b", "where": "c", "remedy": "d"}


def decide(error: BaseException, try_number: int, max_tries: int = 3, retries: int = 3):
    """Return what the policy says of a failed attempt."""
    context = {"ti": SimpleNamespace(task=SimpleNamespace(retries=retries))}
    return ErrorClassPolicy().evaluate(error, try_number, max_tries, context)


@pytest.mark.parametrize(("try_number", "minutes"), [(1, 1), (2, 2), (3, 4)])
def test_errors_of_the_outside_world_wait_one_two_four_minutes(
    try_number: int, minutes: int
) -> None:
    """Seven minutes in all: inside the SLA of ten."""
    decision = decide(CommitConflictError(**PARTS), try_number)
    assert decision.action == RetryAction.RETRY
    assert decision.retry_delay == timedelta(minutes=minutes)


@pytest.mark.parametrize("retries", [3, 1])
@pytest.mark.parametrize(
    ("error", "allowed"),
    [
        (CommitConflictError(**PARTS), 3),
        (ContractError(**PARTS), 1),
        (GateFailedError(**PARTS), 0),
    ],
)
def test_the_class_of_the_error_bounds_the_retries(
    error: Exception, allowed: int, retries: int
) -> None:
    """Whatever the kind of task has for deaths."""
    actions = [decide(error, number, retries, retries).action for number in range(1, 5)]
    assert actions == [RetryAction.RETRY] * allowed + [RetryAction.FAIL] * (4 - allowed)


@pytest.mark.parametrize("retries", [3, 1])
@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError(), KeyboardInterrupt()])
def test_what_has_no_class_is_retried_as_deaths_are(error: BaseException, retries: int) -> None:
    """An unknown error may pass; a build that takes five minutes is not tried four times."""
    actions = [decide(error, number, retries, retries).action for number in range(1, 5)]
    assert actions == [RetryAction.RETRY] * retries + [RetryAction.FAIL] * (4 - retries)


@pytest.mark.parametrize("retries", [3, 1])
def test_clearing_a_task_starts_the_count_anew(retries: int) -> None:
    """Airflow raises max_tries and lets try_number run on."""
    decision = decide(CommitConflictError(**PARTS), 5, max_tries=4 + retries, retries=retries)
    assert decision.retry_delay == timedelta(minutes=1)


def test_what_made_dbt_fail_is_logged_in_our_own_words(caplog, monkeypatch) -> None:
    """Airflow's own line has the runner's error, which says nothing of what to do."""
    monkeypatch.setattr(retry_policy, "explain", lambda _: ContractError(**PARTS))
    decide(RuntimeError("row 4711"), 1)
    assert caplog.messages == ["ContractError: Expected a; came b. Where: c. Next: d"]


def test_a_run_can_be_cleared_before_its_deadline() -> None:
    """Airflow 3.3.0 then adds what it stored to the new queue time, as seconds."""
    stored = encode_deadline_alert(deadline(DAG("any", schedule=None)))
    sla = timedelta(seconds=get_settings().deadline_seconds)
    assert timedelta(seconds=stored["interval"]) == sla
    assert decode_deadline_alert(stored).interval == sla
