"""Search over log lines as Airflow writes them, in a folder of its form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from include.chimera.inquiry.logs import LogQuery, search_logs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def write(root: Path, task: str, *lines: dict | str, run: str = "run one") -> None:
    path = root / "dag_id=etl" / f"run_id={run}" / f"task_id={task}" / "attempt=1.log"
    path.parent.mkdir(parents=True)
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))


def line(second: int, event: str, level: str = "info", **more: str) -> dict:
    return {"timestamp": f"2026-01-05T10:00:{second:02}Z", "level": level, "event": event, **more}


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Return a folder of two runs' logs, one with a line that a killed writer left half."""
    ours = {"correlation_id": "aaa", "run_id": "run one", "logger": "include.chimera.x"}
    write(tmp_path, "a.extract", line(1, "before the window is known"), line(3, "staged", **ours))
    write(tmp_path, "a.gate", line(2, "it's Failed", "error", **ours), '{"timestamp": "2026-01-')
    write(tmp_path, "a.gate", line(4, "other", correlation_id="bbb"), run="run two")
    return str(tmp_path)


def events(root: str, **query: object) -> list[str]:
    return [each["event"] for each in search_logs(LogQuery(**query), root)]


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


def test_no_logs_and_hostile_values_find_nothing(root: str, tmp_path: Path) -> None:
    assert not events(str(tmp_path / "nowhere"))
    assert not events(root, correlation_id="' or true --")
    assert not events(root, text="'; drop table lines; --")
