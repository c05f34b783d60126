"""Hours that the schedule missed run by themselves, beside the current one.

The hourly DAG has its own schedule, limits and deadline, and one task instead of 48: it closes the
run, whose rows of the ledger are what is missed. That the tables do not depend on the hours' order
is for `test_backfill.py`.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from include.chimera.flow.catch_up import run_ids
from include.chimera.local.servers.stack import DAG_ID, Stack
from include.chimera.window import HOUR, Window, floor_hour
from tests.e2e.duty import on_duty
from tests.e2e.test_backfill import backfill

pytestmark = [pytest.mark.e2e, pytest.mark.long]
CATCH_UP = "chimera_catch_up"
FRESH = {"CHIMERA_START_DATE": "", "CHIMERA_END_DATE": "", "CHIMERA_CATCH_UP_RUNS": "2"}
# Nothing dies here: Airflow's own patience, so that a busy machine is not taken for a dead worker.
PATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "60",
}
OUTAGE = 5
SECONDS = 900
ONE_TASK = """
    from airflow.sdk import get_current_context, task
    from include.chimera.flow.run_context import begin_task
    from include.chimera.lake.ops_tables.ledger import close_run
    from include.chimera.lake.staged.publications import Publication
    from include.chimera.lake.staged.records import write_record

    @task
    def close():
        run = begin_task(get_current_context())
        for table in TABLES:
            write_record(run, table, Publication(table, 1, 1, 0, 0, 0))
        close_run(run)

    close()
"""


class ShortStack(Stack):
    """Gives the hourly DAG one task, and lets the catch-up look every minute."""

    def start(self, sample, mode):
        """Change the copies of both DAGs before they are read; after a restart they are so."""
        hourly, catch_up = (self.plan.dags_folder / f"{name}.py" for name in (DAG_ID, CATCH_UP))
        head, line, _ = hourly.read_text().partition("    dag.deadline = deadline(dag)\n")
        assert line
        hourly.write_text(head + line + ONE_TASK)
        often = catch_up.read_text().replace('"*/5 * * * *"', '"* * * * *"')
        assert '"* * * * *"' in often
        catch_up.write_text(often)
        # Airflow's default. The schedule of the catch-up comes with a setting that changes while
        # no run of it exists: then the scheduler's copy of the DAG is up to 30 s old, and the next
        # parse schedules it again.
        self.plan = replace(self.plan, reparse_seconds=30)
        super().start(sample, mode)


def name_of(run):
    """Return a run's type and the start of its hour; of one that catches up, its id."""
    return (run.run_type, run.window_start) if run.window_start else run.run_id


def until(duty, condition, dag_id=DAG_ID):
    """Wait until a DAG's runs, by name, meet a condition; return them."""
    deadline = time.monotonic() + SECONDS
    while True:
        duty.stack.check()
        runs = {name_of(run): run for run in duty.stack.api.runs(dag_id)}
        if condition(runs):
            return runs
        assert time.monotonic() < deadline, {name: run.state for name, run in runs.items()}
        time.sleep(1)


def are_done(*wanted):
    """Return whether all of these runs are there and over, each with success."""

    def condition(runs):
        states = {name: runs[name].state for name in wanted if name in runs}
        assert "failed" not in states.values(), states
        return list(states.values()) == ["success"] * len(wanted)

    return condition


def most_at_once(runs):
    """Return how many of the runs worked at the same time."""
    return max(sum(each.start_at <= run.start_at < each.end_at for each in runs) for run in runs)


def gaps(duty, newest):
    """Return which hours of a bronze table are missing, of those before the newest."""
    _, said = duty.command("gaps", "--end", newest.start.isoformat())
    return [line for line in said.splitlines() if line.startswith("bronze.generations")]


def test_a_fresh_deployment_runs_its_first_hour_and_no_other(tmp_path):
    """However often the catch-up looks."""
    with on_duty(tmp_path, kind=ShortStack, **FRESH, **PATIENT) as duty:
        before = floor_hour(datetime.now(UTC)) - HOUR
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        until(duty, lambda runs: any(run.is_over for run in runs.values()))
        looks = len(until(duty, lambda runs: runs, CATCH_UP))
        until(duty, lambda runs: sum(r.is_over for r in runs.values()) > looks + 1, CATCH_UP)
        runs = sorted(duty.stack.api.runs(DAG_ID), key=lambda run: run.window_start)
    after = floor_hour(datetime.now(UTC)) - HOUR
    assert {run.run_type for run in runs} == {"scheduled"}
    assert runs[0].window_start >= before
    assert len(runs) <= 1 + (after - before) // HOUR  # another one if an hour has ended meanwhile


def test_an_outage_a_backfill_ahead_of_the_schedule_and_lost_records_lose_no_hour(tmp_path):
    """One hour ran, then nothing for five. Then the record of the older five is lost, too."""
    begin = floor_hour(datetime.now(UTC)) - (OUTAGE + 1) * HOUR
    with on_duty(tmp_path, scheduled=Window.of_hour(begin), kind=ShortStack, **PATIENT) as duty:
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        until(duty, are_done(("scheduled", begin)))

        *older, newest = Window(begin, floor_hour(datetime.now(UTC))).hours()
        duty.stack.plan.chimera.update(FRESH, CHIMERA_END_DATE=newest.start.isoformat())
        duty.restart()
        duty.stack.wait_for_dag(CATCH_UP)
        ahead, current = older.pop(-2), ("scheduled", newest.start)
        backfill(duty.stack, ahead)
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        caught_up = [run_ids(hour)[0] for hour in older[1:]]
        runs = until(duty, are_done(current, ("backfill", ahead.start), *caught_up))
        missed = [runs[name] for name in caught_up]
        assert sorted(missed, key=lambda run: run.start_at) == missed
        assert runs[current].start_at < missed[0].start_at
        assert most_at_once(missed) <= 2
        assert not gaps(duty, newest)

        lost = sorted([*older, ahead])[:OUTAGE]
        lose_record(duty, lost)
        assert gaps(duty, newest)
        again = [run_ids(hour)[hour in older[1:]] for hour in lost]  # the second attempt of these
        runs = until(duty, are_done(*again))
        assert most_at_once([runs[name] for name in again]) <= 2
        assert not gaps(duty, newest)
        assert len(runs) == len(older) + 2 + len(again)
        assert not duty.slack.find("is late", "catch_up__")


def lose_record(duty, hours):
    """Delete the hours' rows of the ledger."""
    duty.versions.may_shrink.add("ops.window_ledger")
    ledger = DeltaTable(duty.stack.layout.root / "lake/ops/window_ledger")
    rows = ledger.to_pyarrow_table()
    starts = pa.array([hour.start for hour in hours], rows.schema.field("window_start").type)
    kept = rows.filter(pc.invert(pc.is_in(rows["window_start"], starts)))
    assert kept.num_rows <= rows.num_rows - len(hours)
    write_deltalake(ledger, kept, mode="overwrite")
