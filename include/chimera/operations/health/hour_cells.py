"""One table in one hour: the word that stands in the strip of the last 24 hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from include.chimera.operations.health.known_facts import GateFact, Known, RunFact, TaskFact
    from include.chimera.operations.health.table_graph import TableNode

WORKING = {"running", "queued", "scheduled", "deferred", "restarting", "up_for_reschedule"}
BAD = {"refused", "failed", "blocked", "missing", "stopped"}


@dataclass(frozen=True)
class Cell:
    """One table in one hour.

    Args:
        hour: Its start, UTC.
        word: passed, warned, accepted, refused, failed, blocked, stopped, retrying, running,
            skipped, missing, or none: the hour was not due.
        run_id: The run that says so; "": none does.
    """

    hour: datetime
    word: str
    run_id: str = ""


def cell_of(
    known: Known,
    node: TableNode,
    gates: Sequence[GateFact],
    hour: datetime,
    first_due: datetime | None,
) -> Cell:
    """Return what became of an hour: its newest verdict, unless its tasks say more."""
    said = [fact for fact in gates if fact.window.start <= hour < fact.window.end]
    runs = [
        run
        for run in known.runs
        if run.run.window.start <= hour < run.run.window.end and tasks_of(run, node)
    ]
    run = max(runs, key=lambda each: each.started_at or known.now, default=None)
    word = _word_of_tasks(run, node) if run else ""
    if said and not (run and word in {"running", "retrying"}):
        newest = said[-1]
        word = _word_of_gate(known, newest, "failed" if word == "failed" else "")
        return Cell(hour, word, newest.run_id)
    if word:
        return Cell(hour, word, run.run.run_id if run else "")
    is_due = first_due is not None and hour >= first_due
    return Cell(hour, "missing" if is_due else "none")


def _word_of_gate(known: Known, fact: GateFact, task: str) -> str:
    if fact.outcome == "failed":
        return "refused"
    if is_committed(known, fact):
        return fact.word
    return "stopped" if known.was_stopped(fact.said_at) else task or "running"


def _word_of_tasks(run: RunFact, node: TableNode) -> str:
    tasks = tasks_of(run, node)
    states = {task.state for task in tasks}
    for state, word in (
        ("failed", "failed"),
        ("up_for_retry", "retrying"),
        ("upstream_failed", "blocked"),
    ):
        if state in states:
            return word
    if run.state in {"running", "queued"} and is_working(run, node):
        return "running"
    return "skipped" if tasks[-1].state == "skipped" else ""


def is_committed(known: Known, fact: GateFact) -> bool:
    """Are the rows of a good verdict in the table?

    The record says it, else the clock: a gate commits right after its verdict, unless publishing
    is stopped then.
    """
    if fact.is_committed is not None:
        return fact.is_committed
    return not known.was_stopped(fact.said_at)


def tasks_of(run: RunFact, node: TableNode) -> list[TaskFact]:
    """Return a table's tasks in a run, in order."""
    return [run.tasks[name] for name in node.tasks if name in run.tasks]


def is_working(run: RunFact, node: TableNode) -> bool:
    """Has a task of the table begun, or is it still to begin?"""
    return any(task.state in {*WORKING, None} for task in tasks_of(run, node))
