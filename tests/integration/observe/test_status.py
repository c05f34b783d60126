"""`status --max-age`, the dead man's switch: what it prints and how it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.contracts import BRONZE, PUBLISHED_VERSIONS, WINDOW_LEDGER
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.publish.verification import COUNTS
from include.chimera.window import HOUR, Run, Window, floor_hour, hour_label

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]


def ask(max_age: str) -> tuple[int, dict]:
    """Run the command; return its exit code and its JSON."""
    done = CliRunner().invoke(app, ["status", "--max-age", max_age, "--json"])
    return done.exit_code, json.loads(done.stdout)


def close(hours_ago: int, tables: list[str], *, is_whole: bool = True) -> None:
    """Write what a run's last task does: its ledger, its versions if all gates passed."""
    window = Window.of_hour(floor_hour(datetime.now(UTC)) - (hours_ago + 1) * HOUR)
    run = Run(f"scheduled__{hours_ago}", window)
    row = {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "window_start": window.start,
        "window_end": window.end,
        "recorded_at": window.end,
    }
    counts = dict.fromkeys([*COUNTS, "table_version", "attempt_token"], 0)
    append_rows(WINDOW_LEDGER, [{**row, **counts, "table_name": name} for name in tables], run)
    if is_whole:
        versions = {
            "table_version": 0,
            "table_name": "gold.fct",
            "_window_hour": hour_label(window.start),
        }
        append_rows(PUBLISHED_VERSIONS, [{**row, **versions}], run)


NAMES = [contract.name for contract in BRONZE]


def test_an_empty_lake_is_stale() -> None:
    code, told = ask("2h")
    assert code == 1
    assert (told["is_fresh"], told["age_seconds"], told["published_until"]) == (False, None, None)
    assert told["late_tables"] == NAMES


def test_the_exit_code_follows_the_newest_whole_hour() -> None:
    """The clock's current hour adds up to an hour to the age of the newest one."""
    close(3, NAMES)
    code, told = ask("5h")
    assert (code, told["is_fresh"], told["late_tables"]) == (0, True, [])
    assert 3 * 3600 <= told["age_seconds"] < 4 * 3600
    assert ask("240m")[0] == 0
    code, told = ask("90m")
    assert (code, told["is_fresh"], told["max_age_seconds"]) == (1, False, 5400.0)
    assert told["late_tables"] == NAMES


def test_one_late_table_is_named_although_others_go_on() -> None:
    """An hour whose gates did not all pass is fresh for single tables, not for the whole lake."""
    close(3, NAMES)
    close(0, NAMES[1:], is_whole=False)
    code, told = ask("2h")
    assert (code, told["late_tables"]) == (1, NAMES[:1])
    assert told["age_seconds"] >= 3 * 3600


@pytest.mark.parametrize("text", ["2", "2x", "-1h", "0h", "2h; ls", "1e3s", "9" * 9 + "h"])
def test_an_age_that_is_none_is_refused(text: str) -> None:
    done = CliRunner().invoke(app, ["status", f"--max-age={text}"])
    assert done.exit_code == 2
    assert "whole number" in done.output
