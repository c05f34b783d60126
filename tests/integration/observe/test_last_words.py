"""What the health page quotes of a failed task: the error of its newest attempt, in our words."""

import json

import pytest

from include.chimera.errors import StorageRefusedError
from include.chimera.operations.health.last_words import last_words
from include.chimera.settings import get_settings

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

FAILED = "Task failed with exception"
KILLED = "Process terminated by signal. Likely out of memory error (OOM)."


def write(attempt, *lines):
    """Write an attempt's log as Airflow does."""
    place = "dag_id=chimera_etl_hourly/run_id=one/task_id=extract"
    folder = get_settings().state_dir / "logs/tasks" / place
    folder.mkdir(parents=True, exist_ok=True)
    stamp = "2026-01-05T10:00:00Z"
    texts = [json.dumps({"timestamp": stamp, "level": "error", **line}) for line in lines]
    (folder / f"attempt={attempt}.log").write_text("\n".join(texts) + "\n")


def raised(event, error):
    detail = {"exc_type": type(error).__name__, "exc_value": str(error)}
    return {"event": event, "error_detail": [detail]}


FULL = raised(FAILED, StorageRefusedError(came="a full disk", where="the lake"))


def test_an_attempt_that_was_killed_is_not_told_as_the_one_before() -> None:
    """Nor in the words of Airflow, which name no next step."""
    write(1, FULL)
    write(2, {"event": KILLED, "level": "critical"})
    assert "a full disk" in last_words("one", "extract", 1)
    assert last_words("one", "extract", 2).startswith("sudden death")
    assert last_words("one", "extract", 12).startswith("sudden death")


def test_a_callback_that_fails_afterwards_does_not_hide_the_error() -> None:
    """As on a full disk, where no message can be kept."""
    later = StorageRefusedError(came="another", where="the outbox")
    write(3, FULL, raised("Failed to run task callback", later))
    told = last_words("one", "extract", 3)
    assert "a full disk" in told
    assert "another" not in told
