"""No exception leaves a task, or a callback, with the text of anyone else's."""

import json
import logging
import pickle
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from include.chimera.alerts.causes import Fault
from include.chimera.errors import ContractError, GateFailedError, UnexpectedError
from include.chimera.flow import maintenance, metrics_backend, tasks
from include.chimera.flow.delivery.callbacks import (
    tell_failure,
    tell_late,
    tell_run_failure,
    tell_success,
)
from include.chimera.flow.foreign_errors import own_words
from include.chimera.profiles.chosen import intakes
from tests.said import said_of

CANARY = "canary-4711\x1b[2J@example.org"
PARTS = {"expected": "a", "came": "b", "where": "c", "remedy": "d"}


def _value() -> None:
    raise ValueError(CANARY)


def _key() -> None:
    {}[CANARY]


def _cast() -> None:
    pa.array([CANARY]).cast(pa.int64())


def _conversion() -> None:
    duckdb.sql(f"select '{CANARY}'::int").fetchall()


def _json() -> None:
    json.loads(f'{{"{CANARY}')


def _bytes() -> None:
    CANARY.encode("utf-16").decode()


def _file() -> None:
    open(f"/nowhere/{CANARY}")  # noqa: PTH123, SIM115 - it fails


def _group() -> None:
    raise ExceptionGroup(CANARY, [ValueError(CANARY)])


def _noted() -> None:
    error = ValueError(CANARY)
    error.add_note(CANARY)
    raise error


def _chained() -> None:
    try:
        _value()
    except ValueError as error:
        raise RuntimeError(CANARY) from error


def _raise_after_another(known: BaseException, how: str) -> None:
    try:
        _chained()
    except RuntimeError as error:
        if how == "from":
            raise known from error
        raise known  # noqa: B904 - what is tried


BODIES = [_value, _key, _cast, _conversion, _json, _bytes, _file, _group, _noted, _chained]


@pytest.mark.parametrize("body", BODIES)
def test_of_an_unknown_error_class_and_place_are_told_and_nothing_else(body) -> None:
    """The frames stay, so that whoever reads the log finds the line."""
    with pytest.raises(UnexpectedError) as told, own_words():
        body()
    said = said_of(told.value)
    assert "canary" not in said
    assert "\x1b" not in said
    assert f"in {body.__name__}" in said
    assert Path(__file__).name in told.value.where
    assert "canary" not in said_of(pickle.loads(pickle.dumps(told.value)))  # noqa: S301 - ours
    assert Fault.of(told.value).text == str(told.value)


def test_the_class_that_is_told_is_the_errors_own() -> None:
    """With its module, and with the system's words where it has a number."""
    for body, came in ((_cast, "pyarrow.lib.ArrowInvalid"), (_file, "No such file or directory")):
        with pytest.raises(UnexpectedError, match=came), own_words():
            body()


@pytest.mark.parametrize("kind", [ContractError, AirflowFailException, KeyboardInterrupt])
@pytest.mark.parametrize("how", ["from", "while"])
def test_what_is_known_passes_without_what_others_said_before(kind, how) -> None:
    """Also of an error that was raised while another one was handled, or by another known one."""
    known = kind(**PARTS) if kind is ContractError else kind("stopped")
    with pytest.raises(kind) as told, own_words():
        _raise_after_another(known, how)
    assert told.value is known
    assert "canary" not in said_of(told.value)


def test_a_verdict_stays_behind_airflows_own_exception() -> None:
    """What decides on retries and messages is found as before."""
    verdict = GateFailedError(**PARTS)
    verdict.__cause__ = ValueError(CANARY)
    stop = AirflowFailException(str(verdict))
    with pytest.raises(AirflowFailException) as told, own_words():
        raise stop from verdict
    assert told.value.__cause__ is verdict
    assert "canary" not in said_of(told.value)


def test_an_error_of_ours_below_one_of_others_is_what_is_told() -> None:
    """As retries and messages take it."""
    with pytest.raises(ContractError) as told, own_words():
        raise RuntimeError(CANARY) from ContractError(**PARTS)
    assert "canary" not in said_of(told.value)


@pytest.mark.parametrize("signal", [AirflowSkipException("no"), SystemExit(3)])
def test_what_steers_airflow_passes(signal) -> None:
    """It is no failure."""
    with pytest.raises(type(signal)) as told, own_words():
        raise signal
    assert told.value is signal


def test_a_deferral_passes() -> None:
    deferral = TaskDeferred(trigger=SimpleNamespace(), method_name="arrive")
    with pytest.raises(TaskDeferred), own_words():
        raise deferral


TASKS = [
    *map(tasks.extract_task, intakes()),
    *(
        found
        for module in (tasks, maintenance)
        for found in vars(module).values()
        if hasattr(found, "override") and hasattr(found, "function")
    ),
]


def test_the_tasks_are_found() -> None:
    """An empty list would prove nothing."""
    assert len(TASKS) >= 12


@pytest.mark.parametrize("body", [task.function for task in TASKS], ids=lambda each: each.__name__)
def test_each_task_speaks_our_own_words(body) -> None:
    """Outside of Airflow it fails at its first question for the context."""
    wanted = body.__wrapped__.__code__.co_argcount
    with pytest.raises(UnexpectedError):
        body(*["bronze"] * wanted)


@pytest.mark.parametrize("tell", [tell_failure, tell_run_failure, tell_success, tell_late])
def test_each_callback_speaks_our_own_words(tell, monkeypatch) -> None:
    """Airflow logs what a callback raises."""

    def broken(*_):
        raise ValueError(CANARY)

    monkeypatch.setattr("include.chimera.flow.delivery.callbacks.channels", broken)
    with pytest.raises(UnexpectedError) as told:
        tell({CANARY: 1, "dag_run": {CANARY: 1}} if tell is tell_late else {})
    assert "canary" not in said_of(told.value)


def test_metrics_that_can_not_be_had_are_logged_without_what_was_said(monkeypatch, caplog) -> None:
    def broken(_):
        raise ValueError(CANARY)

    monkeypatch.setattr("include.chimera.operations.run_metrics.run_facts", broken)
    caplog.set_level(logging.DEBUG)
    metrics_backend.emit(None)
    assert "could not gather the run's metrics" in caplog.text
    assert "canary" not in caplog.text
