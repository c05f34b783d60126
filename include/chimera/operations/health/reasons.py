"""Why a table is as it is, and what mends it: one check for each state, the worst first.

A check looks at the newest hour for which anything is known of the table; the first one that has
something to say decides the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from include.chimera.errors import CLI
from include.chimera.operations.health.hour_cells import WORKING, is_working, tasks_of
from include.chimera.settings import get_settings
from include.chimera.window import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from include.chimera.operations.health.known_facts import GateFact, Known, RunFact, TaskFact
    from include.chimera.operations.health.table_graph import TableNode

State = Literal[
    "refused", "failed", "stopped", "blocked", "late", "unknown", "retried", "accepted", "warned",
    "fresh",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """Something that mends a state.

    Args:
        text: What to do, one sentence.
        command: The command that does it; "": there is none.
        action: The page's control that does it; "": there is none.
    """

    text: str
    command: str = ""
    action: str = ""


@dataclass(frozen=True)
class Reason:
    """A state with its cause.

    Args:
        state: The state.
        cause: Why, in a sentence.
        steps: What to do, the best first.
        runbook: The runbook's section about it; "": none is needed.
        run_id: The run to look at; "": there is none.
        task: The task to look at; None: none in particular.
        roots: The tables that have to be mended first; empty: none but this one.
    """

    state: State
    cause: str = ""
    steps: tuple[Step, ...] = ()
    runbook: str = ""
    run_id: str = ""
    task: TaskFact | None = None
    roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sight:
    """What a check looks at: one table, in the newest hour for which anything is known of it.

    Args:
        known: All that is known.
        node: The table.
        gate: Its newest verdict.
        run: The newest run, by its hours, in which it had something to do.
        task: That run's task that says most: failed, waiting for a retry, or not reached.
        until: End of the newest published hour, UTC.
        parents: Why the tables that it is made of are as they are, by name.
    """

    known: Known
    node: TableNode
    gate: GateFact | None
    run: RunFact | None
    task: TaskFact | None
    until: datetime | None
    parents: Mapping[str, Reason]

    @classmethod
    def of(
        cls,
        known: Known,
        node: TableNode,
        gates: Sequence[GateFact],
        until: datetime | None,
        parents: Mapping[str, Reason],
    ) -> Sight:
        """Look at a table."""
        run = _newest_run(known, node)
        return cls(
            known,
            node,
            gates[-1] if gates else None,
            run,
            _worst_task(run, node) if run else None,
            until,
            parents,
        )

    @property
    def run_id(self) -> str:
        """The run's id; "": there is no run."""
        return self.run.run.run_id if self.run else ""

    def task_in(self, *states: str) -> TaskFact | None:
        """Return the telling task if it is in one of these states."""
        return self.task if self.task and self.task.state in states else None


def objective() -> timedelta:
    """Return the age that a table may have: the hour under way, and a run's deadline."""
    return HOUR + timedelta(seconds=get_settings().deadline_seconds)


def reason_of(sight: Sight) -> Reason:
    """Return why a table is as it is."""
    found = (check(sight) for check in _CHECKS)
    return next((each for each in found if each), Reason("fresh", run_id=sight.run_id))


def _refused(sight: Sight) -> Reason | None:
    gate, run = sight.gate, sight.run
    if gate is None or gate.outcome != "failed":
        return None
    if run and run.run.run_id == gate.run_id and is_working(run, sight.node):
        return None  # it is judged again
    named = f"{gate.table} --run '{gate.run_id}'"
    return Reason(
        "refused",
        f"Its gate refused {gate.window}: {', '.join(gate.failed_rules)}; "
        f"{gate.rows_refused:,} of {gate.rows:,} rows are bad. Readers have the last good version.",
        (
            Step(
                "Wrong at the source or in the model: mend it there, then stage and judge again.",
                action="restage",
            ),
            Step(
                "Right as they are: accept exactly these rows.",
                f"{CLI} accept {named} --reason '…'",
                "accept",
            ),
            Step("Look at the rows first.", f"{CLI} staged {named}"),
        ),
        "A gate failed",
        gate.run_id,
        sight.task_in("failed"),
    )


def _failed(sight: Sight) -> Reason | None:
    task = sight.task_in("failed")
    if task is None or _is_held(sight):
        return None
    source = task.name.removeprefix("wait_for_")
    is_late = source != task.name
    count = "1 attempt" if task.try_number == 1 else f"{task.try_number} attempts"
    return Reason(
        "failed",
        f"The source {source} did not complete the hour in time"
        if is_late
        else f"{task.task_id} failed after {count}",
        (
            Step(
                "Mend what the error names, then run the failed tasks again.",
                f"{CLI} logs --run-id '{sight.run_id}' --level error",
                "rerun",
            ),
        ),
        "A source is late" if is_late else "A task failed",
        sight.run_id,
        task,
    )


def _stopped(sight: Sight) -> Reason | None:
    if sight.known.stop is None:
        return None
    step = Step(
        "Mend what it was stopped for, then resume; the refused gates run again when their failed "
        "tasks do.",
        f"{CLI} resume-publishing --reason '…'",
        "resume",
    )
    task = sight.task_in("failed")
    runbook = "Wrong data was published"
    return Reason("stopped", str(sight.known.stop), (step,), runbook, sight.run_id, task)


def _held_back(sight: Sight) -> Reason | None:
    """A gate that was refused while publishing was stopped, which has been resumed since."""
    task = sight.task_in("failed")
    if task is None:
        return None
    step = Step("Publishing goes on again: run the refused gates again.", action="rerun")
    cause = f"{task.task_id} was kept from publishing, and has not run again since"
    return Reason("failed", cause, (step,), "Wrong data was published", sight.run_id, task)


def _blocked(sight: Sight) -> Reason | None:
    task = sight.task_in("upstream_failed")
    if task is None:
        return None
    bad = ("refused", "failed", "stopped", "retried")
    roots = {name for name, why in sight.parents.items() if why.state in bad}
    roots |= {name for why in sight.parents.values() for name in why.roots}
    cause = f"waits for {', '.join(sorted(roots))}" if roots else "a task before it failed"
    step = Step("Mend that first; this follows when it runs again.")
    return Reason("blocked", cause, (step,), "", sight.run_id, task, tuple(sorted(roots)))


def _waiting(sight: Sight) -> Reason | None:
    task = sight.task_in("up_for_retry")
    if task is None:
        return None
    step = Step("Nothing yet: it is tried again by itself. Its log has the last error.")
    cause = f"{task.task_id} failed once more and waits for attempt {task.try_number + 1}"
    return Reason("retried", cause, (step,), "A task failed", sight.run_id, task)


def _late(sight: Sight) -> Reason | None:
    known, until, run = sight.known, sight.until, sight.run
    if until is not None and known.now - until <= objective():
        return None
    at_work = [task for task in (tasks_of(run, sight.node) if run else ()) if task.state in WORKING]
    task = at_work[0] if at_work else None
    open_it = Step("Open the run and see what it does.")
    if known.is_paused:
        why, runbook = "the DAG chimera_etl_hourly is paused", "A table is stale"
        step = Step("Unpause it.", "airflow dags unpause chimera_etl_hourly")
    elif task and task.name.startswith("wait_for_"):
        why = f"its source {sight.node.source} is not complete yet; {task.task_id} waits for it"
        runbook = "A source is late"
        step = Step("See what holds the source back; it goes on by itself when the hour is there.")
    elif task:
        why, runbook, step = f"{task.task_id} is {task.state}", "A run is late", open_it
    elif run and run.state in {"running", "queued"}:
        why, runbook = f"the run of {run.run.window} is {run.state}", "A run is late"
        step = open_it
    else:
        why, runbook = "no run has published the hours since", "Hours are missing"
        step = Step("See whether the scheduler runs; then heal the gap.", f"{CLI} gaps", "heal")
    if until is None:
        why = f"no hour of it is known to be published; {why}"
    state: State = "unknown" if until is None else "late"
    return Reason(state, why, (step,), runbook, sight.run_id, task)


def _accepted(sight: Sight) -> Reason | None:
    gate = sight.gate
    if gate is None or gate.outcome != "accepted":
        return None
    rules = ", ".join(gate.failed_rules) or "its rules' failures"
    cause = f"{gate.accepted_by} let {rules} through: {gate.accepted_reason}"
    return Reason("accepted", cause, run_id=gate.run_id)


def _retried(sight: Sight) -> Reason | None:
    tasks = tasks_of(sight.run, sight.node) if sight.run else []
    task = next((each for each in tasks if each.try_number > 1), None)
    if task is None:
        return None
    cause = f"{task.task_id} needed {task.try_number} attempts"
    return Reason("retried", cause, run_id=sight.run_id, task=task)


def _warned(sight: Sight) -> Reason | None:
    gate = sight.gate
    if gate is None or gate.word != "warned":
        return None
    step = Step(
        "Nothing is held back. See under Rules what was observed. Wrong rows: stop publishing, put "
        "the table back, mend the source. A new level: nothing, it becomes usual by itself."
    )
    cause = f"{gate.window} is unlike former hours or rules: {', '.join(gate.warned_rules)}"
    return Reason("warned", cause, (step,), "A value is unusual", gate.run_id)


_CHECKS: tuple[Callable[[Sight], Reason | None], ...] = (
    *(_refused, _failed, _stopped, _held_back, _blocked, _waiting, _late),
    *(_accepted, _retried, _warned),
)


def _is_held(sight: Sight) -> bool:
    """Did the run's gate say yes while publishing was stopped, so that its task failed?"""
    gate = sight.gate
    return (
        gate is not None
        and gate.run_id == sight.run_id
        and gate.outcome != "failed"
        and sight.known.was_stopped(gate.said_at)
    )


def _newest_run(known: Known, node: TableNode) -> RunFact | None:
    runs = [run for run in known.runs if _concerns(run, node)]
    return max(runs, key=lambda each: each.run.window.end, default=None)


def _concerns(run: RunFact, node: TableNode) -> bool:
    """Has a task of the table had something to do in the run, or will it?"""
    ended = {None, "skipped", "removed"} if run.state in {"success", "failed"} else {"skipped"}
    return any(task.state not in ended for task in tasks_of(run, node))


def _worst_task(run: RunFact, node: TableNode) -> TaskFact | None:
    tasks = tasks_of(run, node)
    states = ("failed", "up_for_retry", "upstream_failed")
    found = (task for state in states for task in tasks if task.state == state)
    return next(found, None)
