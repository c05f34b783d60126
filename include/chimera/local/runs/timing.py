"""Arithmetic on the start and end times of a run's tasks."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from include.chimera.local.servers.airflow_api import TaskState


NEVER_RAN = {"skipped", "upstream_failed", "removed"}  # Airflow gives them times nevertheless


@dataclass(frozen=True)
class Stage:
    """What a run's tasks of one group did.

    Args:
        name: The outermost task group; for a task outside all groups its own id.
        task_count: Tasks of the group that ran.
        not_run_count: Tasks that were skipped, or lacked what they wait for.
        seconds: From the first start to the last end, to a tenth; 0 where none ran.
    """

    name: str
    task_count: int
    not_run_count: int
    seconds: float


def stage_of(task_id: str) -> str:
    """Return the outermost task group of a task, or the id of a task that is in none."""
    return task_id.split(".", 1)[0]


def stages(tasks: Iterable[TaskState]) -> list[Stage]:
    """Return each group that is over, in the order of their first starts; what never ran last."""
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
    """Return how many tasks ran at the same moment, at most.

    A task counts from its start up to, not including, its end. One that is retried counts with its
    last attempt alone, which is all that Airflow tells.
    """
    changes: list[tuple[datetime, int]] = []
    for task in tasks:
        if task.state in NEVER_RAN:
            continue
        if task.start_at and task.end_at and task.end_at > task.start_at:
            changes += [(task.start_at, 1), (task.end_at, -1)]
    running = most = 0
    for _, change in sorted(changes):  # at one moment, ends (-1) come before starts (+1)
        running += change
        most = max(most, running)
    return most
