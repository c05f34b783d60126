"""Hours that `airflow backfill create` fills, newest first and two at once, beside the schedule."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise

import duckdb
import pytest

from include.chimera.lake.store.duckdb_sessions import prepare
from include.chimera.local.servers.environment import build_environment, keep_secrets
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.paths import PROJECT
from include.chimera.window import HOUR, Window, floor_hour
from tests.e2e.duty import on_duty

pytestmark = [pytest.mark.e2e, pytest.mark.long]
SECONDS = 900


def backfill(stack, hours):
    """Ask for the hours by Airflow's own command, as docs/runbook.md says."""
    subprocess.run(  # noqa: S603 - our own command line
        [
            *(sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", DAG_ID),
            *("--from-date", hours.start.isoformat()),
            *("--to-date", (hours.end - HOUR).isoformat()),
            *("--reprocess-behavior", "completed", "--max-active-runs", "2", "--run-backwards"),
        ],
        cwd=PROJECT,
        env=build_environment(stack.plan, keep_secrets(stack.layout), {"PATH": "/usr/bin:/bin"}),
        check=True,
    )


def wait_for_all(stack, count):
    """Return the runs once so many are there and over, oldest start first."""
    deadline = time.monotonic() + SECONDS
    while True:
        stack.check()
        runs = stack.api.runs(DAG_ID)
        if len(runs) == count and all(run.is_over for run in runs):
            assert [run.state for run in runs] == ["success"] * count
            return sorted(runs, key=lambda run: run.start_at)
        assert time.monotonic() < deadline, [(run.run_id, run.state) for run in runs]
        time.sleep(1)


def tables(lake):
    """Return the rows of each silver and gold table."""
    with duckdb.connect() as connection:
        prepare(connection)
        return {
            f"{log.parent.parent.name}.{log.parent.name}": connection.execute(
                f"from delta_scan('{log.parent}') order by all"
            ).fetchall()
            for layer in ("silver", "gold")
            for log in sorted((lake / layer).glob("*/_delta_log"))
        }


def test_backfills_beside_the_schedule_give_the_in_order_tables(tmp_path):
    """Three hours: the schedule begins with the last one; the two before it are filled."""
    last = floor_hour(datetime.now(UTC)) - 2 * HOUR
    hours = Window(last - 2 * HOUR, last + HOUR)
    with on_duty(tmp_path / "in_order", [hours]) as duty:
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        wait_for_all(duty.stack, 3)
    with on_duty(tmp_path / "filled", [hours], scheduled=Window.of_hour(last)) as duty:
        backfill(duty.stack, Window(hours.start, last))
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        runs = wait_for_all(duty.stack, 3)
    filled = [run for run in runs if run.run_type == "backfill"]
    assert [run.window_start for run in filled] == [last - HOUR, last - 2 * HOUR]
    assert any(before.end_at > after.start_at for before, after in pairwise(filled))
    expected, found = (tables(tmp_path / name / "state/lake") for name in ("in_order", "filled"))
    assert len(expected) > 10
    assert sum(map(len, expected.values())) > 1000
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
