"""One generated hour on the real scheduler."""

import json

import pytest

from include.chimera.contracts import CONTRACTS
from tests.e2e.conftest import CommandResult

pytestmark = pytest.mark.e2e


def test_hour_fills_every_layer_and_passes_every_gate(generated_hour: CommandResult) -> None:
    """Sources to marts: each table has rows, each gate a verdict."""
    (hour,) = generated_hour.hours
    tables = {table["table"]: table for table in hour["pipeline"]["tables"]}
    assert {name for name in CONTRACTS if name.startswith("bronze.")} <= set(tables)
    assert all(table["rows_total"] for table in tables.values())
    assert {gate["verdict"] for gate in hour["pipeline"]["gates"]} <= {"passed", "warned"}
    assert set(tables) == {gate["table"] for gate in hour["pipeline"]["gates"]}


def test_rows_read_are_published_refused_or_duplicate(generated_hour: CommandResult) -> None:
    """The law of the ledger, and malformed lines in the dead letters with their reason."""
    (hour,) = generated_hour.hours
    for table in hour["pipeline"]["tables"]:
        parts = ("rows_published", "rows_refused", "rows_duplicate")
        assert table["rows_read"] == sum(table[part] for part in parts), table["table"]
    assert hour["pipeline"]["refusals"] == [
        {"source": "bronze.api_logs", "reason": "malformed_line", "count": 3}
    ]


def test_at_least_four_tasks_ran_at_once(generated_hour: CommandResult) -> None:
    """By the tasks' own start and end times, counted here and not by the report."""
    (hour,) = generated_hour.hours
    spans = [(task["start_at"], task["end_at"]) for task in hour["tasks"] if task["start_at"]]
    most = max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
    assert most >= 4


def test_memory_of_all_processes_stays_below_four_gigabytes(generated_hour: CommandResult) -> None:
    """The requirement of the platform, as the report prints it."""
    assert 0 < generated_hour.report["costs"]["peak_bytes"] < 4 * 2**30


def test_a_green_hour_has_nothing_to_complain_about(generated_hour: CommandResult) -> None:
    """No line of a task's log has the level error, whoever wrote it."""
    logs = sorted((generated_hour.state / "logs" / "tasks").rglob("*.log"))
    assert len(logs) > 40
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines if line["level"] in {"error", "critical"}] == []
