"""Time: of a command's phases, and of a run's tasks by their start and end times."""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from include.chimera.local.servers.airflow_api import TaskState


class Phases:
    """Splits the time since it was made into named phases, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.begun = self._last = time.monotonic()

    def end(self, name: str) -> None:
        """End the phase that began when the last one ended."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 1)
        self._last = now


STAGES = {
    "extract": ("wait_for_", "extract_"),
    "validate": ("gate_bronze_",),
    "transform": ("build_", "gate_"),
    "optimize": ("optimize_",),
}
"""Kinds of work in an hour's order, and how the ids of their tasks begin."""

NEVER_RAN = {"skipped", "upstream_failed", "removed"}  # Airflow sets their times all the same


@dataclass(frozen=True)
class Stage:
    """Counts and duration of one kind of work in a run.

    Args:
        name: As `STAGES` names it; for a task of no such kind, its own id.
        task_count: Tasks of the kind that ran.
        not_run_count: Tasks that were skipped or removed, or whose upstream failed.
        seconds: Time from the first start to the last end, to a tenth; 0 if none ran.
    """

    name: str
    task_count: int
    not_run_count: int
    seconds: float


def stage_of(task_id: str) -> str:
    """Return the kind of work that a task does, or its own id if it is of none."""
    kinds = (name for name, begins in STAGES.items() if task_id.startswith(begins))
    return next(kinds, task_id)


def stages(tasks: Iterable[TaskState]) -> list[Stage]:
    """Return the finished stages in the order of their first starts; those that never ran last."""
    groups: dict[str, list[TaskState]] = {}
    for task in tasks:
        groups.setdefault(stage_of(task.task_id), []).append(task)
    found: list[tuple[datetime, Stage]] = []
    never: list[Stage] = []
    for name, members in groups.items():
        ran = [task for task in members if task.state not in NEVER_RAN]
        not_run = len(members) - len(ran)
        starts = [task.start_at for task in ran if task.start_at]
        ends = [task.end_at for task in ran if task.end_at]
        if starts and ends:
            seconds = round((max(ends) - min(starts)).total_seconds(), 1)
            found.append((min(starts), Stage(name, len(ran), not_run, seconds)))
        elif not_run:
            never.append(Stage(name, 0, not_run, 0.0))
    return [stage for _, stage in sorted(found, key=itemgetter(0))] + never


def most_at_once(tasks: Iterable[TaskState]) -> int:
    """Return the largest number of tasks that ran at the same time.

    A task counts from its start up to, but not including, its end. A retried task counts only with
    its last attempt, because Airflow reports no other.
    """
    changes: list[tuple[datetime, int]] = []
    for task in tasks:
        if task.state in NEVER_RAN:
            continue
        if task.start_at and task.end_at and task.end_at > task.start_at:
            changes += [(task.start_at, 1), (task.end_at, -1)]
    running = most = 0
    for _, change in sorted(changes):  # at equal times, ends (-1) sort before starts (+1)
        running += change
        most = max(most, running)
    return most
