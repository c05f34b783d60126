"""Search log lines as Airflow writes them, in a folder like its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.errors import ConfigurationError, SourceUnavailableError
from include.chimera.operations.log_search import LogQuery, search_logs
from include.chimera.window import Run, Window

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def write(
    root: Path, task: str, *lines: dict | str, run: str = "run one", attempt: int = 1
) -> None:
    path = root / "dag_id=etl" / f"run_id={run}" / f"task_id={task}" / f"attempt={attempt}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))


def line(second: int, event: str, level: str = "info", **more: object) -> dict:
    return {"timestamp": f"2026-01-05T10:00:{second:02}Z", "level": level, "event": event, **more}


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Return a folder of two runs' logs, one with a line that a killed writer left incomplete."""
    ours = {"correlation_id": "aaa", "run_id": "run one", "logger": "include.chimera.x"}
    write(tmp_path, "a.extract", line(1, "before the window is known"), line(3, "staged", **ours))
    write(tmp_path, "a.gate", line(2, "it's Failed", "error", **ours), '{"timestamp": "2026-01-')
    write(tmp_path, "a.gate", line(4, "other", correlation_id="bbb"), run="run two")
    return str(tmp_path)


def events(root: str, **query: object) -> list[str]:
    return [each.event for each in search_logs(LogQuery(**query), root)]


def test_a_runs_lines_are_found_even_before_they_know_their_id(root: str) -> None:
    assert events(root, correlation_id="aaa") == [
        "before the window is known", "it's Failed", "staged",
    ]  # fmt: skip
    assert events(root, run_id="run two") == ["other"]


def test_conditions_narrow_together(root: str) -> None:
    assert events(root, correlation_id="aaa", task="gate$") == ["it's Failed"]
    assert events(root, level="warning") == ["it's Failed"]
    assert events(root, text="FAILED") == ["it's Failed"]
    assert events(root, logger="^include") == ["it's Failed", "staged"]
    assert events(root, since=datetime(2026, 1, 5, 10, 0, 3, tzinfo=UTC)) == ["staged", "other"]
    assert events(root, limit=1) == ["other"]


def test_the_lines_of_the_attempt_at_a_moment_are_found(tmp_path: Path) -> None:
    """A cleared run keeps its id, so its newest lines may not belong to the commit."""
    for attempt, second in ((1, 1), (2, 5), (3, 20)):
        said = line(second, "begun"), line(second + 3, f"{attempt}")
        write(tmp_path, "gate", *said, attempt=attempt)
    write(tmp_path, "build", line(2, "built"))
    write(tmp_path, "build", line(19, "built again"), attempt=2)
    moment = datetime(2026, 1, 5, 10, 0, 7, tzinfo=UTC)
    assert events(str(tmp_path), attempts_at=moment) == ["built", "begun", "2"]


def test_no_logs_and_hostile_values_find_nothing(root: str, tmp_path: Path) -> None:
    assert not events(str(tmp_path / "nowhere"))
    assert not events(root, correlation_id="' or true --")
    assert not events(root, text="'; drop table lines; --")


@pytest.mark.parametrize("condition", ["task", "logger"])
def test_a_pattern_that_is_none_is_told(root: str, condition: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{condition}"):
        search_logs(LogQuery(**{condition: "("}), root)


def test_the_command_says_where_it_found_nothing(root: str) -> None:
    """Otherwise a mistyped id, or another machine's folder, would look like a silent run."""
    done = CliRunner().invoke(app, ["logs", "--root", root, "--correlation-id", "no such"])
    assert done.exit_code == 1
    assert done.stderr == f"no log line matches in {root}\n"


def raised(*chain: tuple[str, str]) -> list[dict]:
    """Return exceptions as Airflow's structlog writes them, the outermost first."""
    return [
        {"exc_type": name, "exc_value": text, "exc_notes": [], "is_cause": place > 0, "frames": []}
        for place, (name, text) in enumerate(chain)
    ]


def ask(root: str, *words: str) -> str:
    done = CliRunner().invoke(app, ["logs", "--root", root, *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_an_error_is_told_with_what_to_do_next(tmp_path: Path) -> None:
    """The runbook's first command once showed only "Task failed with exception", and no run."""
    run = Run("scheduled__x", Window.of_hour(datetime(2026, 1, 5, 8, tzinfo=UTC)))
    own = str(SourceUnavailableError("an answer", "none", "app_db", "look at\nthe server"))
    broken = line(1, "Task failed with exception", "error", error_detail=raised(("X", own)))
    write(tmp_path, "a", broken, run=run.run_id)
    wrapped = raised(("AirflowException", "row 4711"), ("SourceUnavailableError", own))
    write(tmp_path, "b", broken | {"error_detail": wrapped}, run=run.run_id)
    text = ask(str(tmp_path), "--correlation-id", run.correlation_id, "--level", "error")
    assert text.count(f"{run.correlation_id} ") == 2
    assert text.count("SourceUnavailableError: Expected an answer; came none.\n") == 1
    assert text.count("    Where: app_db.\n    Next: look at the server\n") == 2
    assert "4711" not in text


def test_an_error_that_airflow_raised_again_keeps_its_class(tmp_path: Path) -> None:
    """The runbook's table of errors knows no AirflowFailException."""
    own = str(SourceUnavailableError("an answer", "none", "app_db", "wait"))
    again = raised(("AirflowFailException", own), ("SourceUnavailableError", own))
    write(tmp_path, "a", line(1, "failed", "error", error_detail=again))
    assert "  SourceUnavailableError: Expected an answer" in ask(str(tmp_path), "--level", "error")


@pytest.mark.parametrize(
    "detail",
    [
        {"error_detail": raised(("ValueError", "row 4711"))},
        {"exception": "Traceback (most recent call last):\n  File\nValueError: row 4711"},
    ],
)
def test_of_an_error_of_others_the_place_is_told_and_not_the_text(
    tmp_path: Path, detail: dict
) -> None:
    """It may hold a row or a password."""
    write(tmp_path, "a", line(1, "failed", "error", **detail))
    text = ask(str(tmp_path), "--level", "error")
    assert "ValueError" in text
    assert "Next: read it in" in text
    assert "attempt=1.log" in text
    assert "4711" not in text


def test_a_long_error_stays_readable(tmp_path: Path) -> None:
    own = str(SourceUnavailableError("an answer", "none", "x" * 90_000, "wait"))
    write(tmp_path, "a", line(1, "failed", "error", error_detail=raised(("Ours", own))))
    text = ask(str(tmp_path), "--level", "error")
    assert len(text) < 2_000
    assert "characters more" in text
    assert "Next: wait" in text
