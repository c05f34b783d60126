"""Durations per stage and the most tasks at once, from start and end times alone."""

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from include.chimera.local.runs.timing import STAGES, most_at_once, stage_of, stages
from include.chimera.local.servers.airflow_api import TaskState
from include.chimera.paths import INCLUDE

ZERO = datetime(2026, 1, 1, tzinfo=UTC)


def task(task_id, start, end, state="success"):
    moment = lambda seconds: None if seconds is None else ZERO + timedelta(seconds=seconds)  # noqa: E731
    return TaskState(task_id, -1, state, 1, moment(start), moment(start), moment(end))


def test_stage_lasts_from_first_start_to_last_end():
    found = stages(
        [
            task("wait_for_a", 0, 4),
            task("extract_b", 1, 9),
            task("build_stg_a", 5, 12),
            task("gate_silver_stg_b", 30, 30, "upstream_failed"),
            task("report", 12, 13),
        ]
    )
    counts = [(stage.name, stage.task_count, stage.not_run_count, stage.seconds) for stage in found]
    assert counts == [("extract", 2, 0, 9), ("transform", 1, 1, 7), ("report", 1, 0, 1)]


def test_stage_that_never_ran_says_so_and_one_that_is_still_to_come_is_left_out():
    assert stages([task("optimize_gold", None, None, None)]) == []
    (stage,) = stages([task("report", 9, 9, "upstream_failed")])
    assert (stage.task_count, stage.not_run_count, stage.seconds) == (0, 1, 0)


def test_most_at_once_counts_overlaps_not_neighbours():
    assert most_at_once([task("a", 0, 1), task("b", 1, 2)]) == 1
    assert most_at_once([task("a", 0, 3), task("b", 1, 2), task("c", 2, 4)]) == 2
    assert most_at_once([task("a", 0, 2), task("b", 1, 2, "upstream_failed")]) == 1
    assert most_at_once([]) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=12))
def test_most_at_once_equals_counting_at_each_start(spans):
    tasks = [task(str(index), at, at + long) for index, (at, long) in enumerate(spans)]
    counted = [sum(at <= start < at + long for at, long in spans) for start, _ in spans]
    assert most_at_once(tasks) == max(counted, default=0)


def test_alerts_know_the_same_stages():
    rules = (INCLUDE / "monitoring" / "alerts.yml").read_text()
    told = re.findall(r'{task_id=~"([^"]+)"}, "stage", "(\w+)"', rules)
    assert {stage for _, stage in told} == STAGES.keys()
    tables = ("bronze_x", "silver_stg_x", "gold_x")
    for task_id in (
        "wait_for_x",
        "extract_x",
        "build_x",
        "optimize_x",
        *(f"gate_{t}" for t in tables),
    ):
        assert [stage for form, stage in told if re.fullmatch(form, task_id)] == [stage_of(task_id)]
