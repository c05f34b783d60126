"""Hours on Celery workers that share no folder: the lake, API logs and task logs are in a store."""

import shutil
import sys
from datetime import UTC, datetime

import pytest

from include.chimera.local.runs.timing import stage_of
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.window import HOUR, Window, floor_hour
from tests.e2e.cluster import StoppingCluster, on_cluster, rows_by_table
from tests.e2e.duty import on_duty
from tests.e2e.source_rows import differences
from tests.e2e.test_backfill import backfill, wait_for_all
from tests.integration.object_store import forget_settings

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="there is no redis-server on this machine"
    ),
]
SLA_SECONDS = 600


def test_an_hour_on_two_workers_that_meet_in_a_store_alone(tmp_path, object_store, monkeypatch):
    """Both work, and the tables equal the source."""
    last = floor_hour(datetime.now(UTC)) - 2 * HOUR
    hour = Window.of_hour(last)
    with on_cluster(tmp_path, [hour], hour, object_store, monkeypatch) as duty:
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        wait_for_all(duty.stack, 1)
        for name in ("worker-1", "worker-2"):
            assert "execute_workload" in duty.stack.layout.server_log(name).read_text()
        assert differences(duty) == {}


@pytest.mark.long
def test_a_worker_lost_in_a_gate_and_one_in_a_model_cost_nothing_but_minutes(
    tmp_path, object_store, monkeypatch, capsys
):
    """Two hours, three of a backfill beside them; each ends in time, as in order and as the source.

    The first worker is lost between a gate's commit and its verification, the second between a
    model's files and their manifest, and all that beside runs on them.
    """
    last = floor_hour(datetime.now(UTC)) - 3 * HOUR
    hours = Window(last - 3 * HOUR, last + 2 * HOUR)
    with on_duty(tmp_path / "in_order", [hours]) as duty:
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        wait_for_all(duty.stack, 5)
        with monkeypatch.context() as patch:
            patch.setenv("CHIMERA_STATE_DIR", str(duty.stack.layout.root))
            forget_settings()
            expected = rows_by_table()
        forget_settings()
    scheduled = Window(last, last + 2 * HOUR)
    with on_cluster(
        tmp_path / "lost", [hours], scheduled, object_store, monkeypatch, kind=StoppingCluster
    ) as duty:
        duty.stack.api.set_paused(DAG_ID, is_paused=False)
        gates, models = duty.stack.lose("worker-1"), duty.stack.lose("worker-2")
        backfill(duty.stack, Window(hours.start, last))
        runs = wait_for_all(duty.stack, 5)
        found = rows_by_table()
        assert differences(duty) == {}
        lost = gates + models
        tries = [duty.tries(DAG_ID, t["dag_run_id"], t["task_id"]) for t in lost]
    with capsys.disabled():
        for task in lost:
            sys.stdout.write(f"lost: {task['task_id']} of {task['dag_run_id']}\n")
        for run in runs:
            sys.stdout.write(f"{run.run_id}: {(run.end_at - run.start_at).total_seconds():.0f} s\n")
    assert {stage_of(task["task_id"]) for task in gates} == {"validate"}
    assert {stage_of(task["task_id"]) for task in models} == {"transform"}
    assert all(len(states) == 2 and states[-1]["state"] == "success" for states in tries)
    assert all((run.end_at - run.start_at).total_seconds() <= SLA_SECONDS for run in runs)
    told = [text.partition("\n")[0] for _, text in duty.slack.taken]
    assert sum("published" in line for line in told) == len(runs)
    assert len(set(told)) == len(told), "a message twice"
    assert len(expected) > 10
    assert sum(map(len, expected.values())) > 1000
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
