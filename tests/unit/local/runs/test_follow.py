"""Which run is cleared, which task failed first and why."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from include.chimera.errors import TerminalError
from include.chimera.local.runs.follow import (
    HourFollower,
    HourResult,
    _turn,
    count_tasks,
    find_fault,
)
from include.chimera.local.servers.airflow_api import DagRunState, TaskState
from include.chimera.window import HOUR, Window

FIRST = datetime(2026, 1, 1, 8, tzinfo=UTC)
HOURS = Window(FIRST, FIRST + 3 * HOUR)


def run_of(hour, state="success", run_type="scheduled"):
    moment = FIRST + hour * HOUR
    later = moment + timedelta(days=1)
    return DagRunState(
        f"{run_type}__{hour}", run_type, state, moment, moment + HOUR, later, later, later
    )


class FakeApi:
    def __init__(self, *runs):
        self.known = list(runs)
        self.calls = []

    def runs(self, _):
        return self.known

    def fail(self, _, run_id):
        self.calls.append(("fail", run_id))

    def clear(self, _, run_id):
        self.calls.append(("clear", run_id))

    def set_paused(self, _, *, is_paused):
        self.calls.append(("paused", is_paused))


def prepare(*runs):
    api = FakeApi(*runs)
    follower = HourFollower(api, "dag", check=lambda: None, show=lambda *_: None, deadline=0.0)
    follower.prepare(HOURS)
    return api.calls


def test_a_first_run_leaves_all_hours_to_the_scheduler():
    assert prepare() == [("paused", False)]


def test_known_hours_are_cleared_oldest_first_before_the_scheduler_may_begin():
    calls = prepare(run_of(0), run_of(1, "failed"))
    assert calls == [("clear", "scheduled__0"), ("clear", "scheduled__1"), ("paused", False)]


def test_an_interrupted_run_is_failed_before_it_is_cleared():
    calls = prepare(run_of(0, "running"))
    assert calls[:2] == [("fail", "scheduled__0"), ("clear", "scheduled__0")]


def test_manual_runs_of_the_same_hour_are_left_alone():
    assert prepare(run_of(0, run_type="manual")) == [("paused", False)]


def test_an_hour_behind_the_schedule_is_refused_with_a_way_out():
    with pytest.raises(TerminalError, match="1 that it went past: 20260101T09"):
        prepare(run_of(0), run_of(2))


def test_turn_of_a_queued_run_begins_when_the_one_before_it_ends():
    before = HourResult(Window.of_hour(FIRST), run_of(0), [], None)
    late = DagRunState("r", "scheduled", "success", FIRST, FIRST, FIRST, FIRST, FIRST)
    assert _turn(late, before) == before.run.end_at
    assert _turn(late, None) == FIRST


def task(task_id, state, end=0, number=1):
    return TaskState(task_id, -1, state, number, FIRST, FIRST, FIRST + timedelta(seconds=end))


def test_count_tasks_tells_stages_in_the_order_of_the_flow():
    counts = count_tasks(
        [
            task("report", None),
            task("build_a", "running"),
            task("extract_a", "success"),
            task("extract_b", "failed"),
        ]
    )
    assert list(counts.items()) == [
        ("extract", (2, 0, 0, 2)),
        ("transform", (0, 1, 0, 1)),
        ("report", (0, 0, 0, 1)),
    ]


@pytest.mark.parametrize("state", ["skipped", "upstream_failed", "removed"])
def test_a_task_that_never_ran_is_not_done(state):
    """A failed run once looked as if its last stages had worked."""
    tasks = [task("build_a", "failed"), task("gate_gold_b", state), task("report", state)]
    assert count_tasks(tasks) == {"transform": (1, 0, 1, 2), "report": (0, 0, 1, 1)}


def fault_of(tmp_path, *lines):
    """Return the fault of a run in which the second attempt of `g.a` logged this."""
    tasks = [task("b", "failed", 9), task("g.a", "failed", 3, 2), task("c", "upstream_failed", 1)]
    log = tmp_path / "dag_id=d" / "run_id=scheduled__0" / "task_id=g.a" / "attempt=2.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join([*map(json.dumps, lines), "not json"]))
    fault = find_fault(HourResult(HOURS, run_of(0, "failed"), tasks, None), tmp_path, "d")
    assert (fault.task_id, fault.log) == ("g.a", log)
    return fault.error


def raised(kind, text):
    detail = [{"exc_type": kind, "exc_value": text}]
    return {"level": "error", "event": "Task failed with exception", "error_detail": detail}


def test_fault_is_the_first_failed_task_with_the_last_error_of_its_log(tmp_path):
    own = raised("GateFailedError", "Expected a; came b. Where: c. Next: d")
    lines = [{"level": "error", "event": "first"}, own, {"level": "info", "event": "done"}]
    told = "GateFailedError: Expected a; came b.\nWhere: c.\nNext: d"
    assert fault_of(tmp_path, *lines) == told
    after = {"level": "error", "event": "Next: …"}
    assert fault_of(tmp_path, *lines, after) == f"{told}\nNext: …", "what it means, in our words"


def test_of_an_error_of_others_the_class_alone_is_told(tmp_path):
    """Its text may hold a row; the log's reader hides it too."""
    told = "ValueError: not told here, for its text may hold a row\nNext: read it in the log"
    assert fault_of(tmp_path, raised("ValueError", "row 4711")) == told


def test_no_fault_without_a_failed_task(tmp_path):
    result = HourResult(HOURS, run_of(0), [task("a", "success")], None)
    assert find_fault(result, tmp_path, "d") is None
