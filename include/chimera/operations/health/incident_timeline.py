"""What happened in a run, in order of time: tasks, verdicts, commits, messages, decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.alerts.messages import Message
from include.chimera.alerts.outbox import told_at
from include.chimera.contracts import DEAD_LETTERS
from include.chimera.lake.delta.scans import ask
from include.chimera.lake.publish.stop_switch import read_decisions
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import read_records
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store.duckdb_sessions import quote
from include.chimera.quality.acceptance import Acceptance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from include.chimera.operations.health.known_facts import RunFact, TaskFact
    from include.chimera.window import Run

_BY_TASK = ("failure", "gate_failure")
_BY_TRY = ("success", "recovery")
_BY_RUN = ("late", "dead_letters")


@dataclass(frozen=True)
class Happening:
    """One line of a timeline.

    Args:
        at: When, UTC.
        kind: task, verdict, message, decision or letters.
        text: What happened; counts and names alone.
        is_bad: Whether it is part of what went wrong.
        is_routine: Whether it is as in any hour.
        task_id: The task to look at; "": none.
        table: The table to look at; "": none.
    """

    at: datetime
    kind: str
    text: str
    is_bad: bool = False
    is_routine: bool = False
    task_id: str = ""
    table: str = ""


def timeline(fact: RunFact, attempts: Sequence[TaskFact], now: datetime) -> list[Happening]:
    """Return what happened in a run, oldest first.

    Args:
        fact: The run.
        attempts: Each attempt of its tasks, as the scheduler knows them.
        now: The clock, UTC.

    Raises:
        LakeError: The lake can't be read.
    """
    found = [
        *(_attempt(each) for each in attempts if each.started_at),
        *_judged(fact.run),
        *_told(fact.run, attempts),
        *_decided(fact.run, fact.started_at, fact.ended_at or now),
        *_refused(fact.run),
    ]
    return sorted(found, key=lambda each: each.at)


def _attempt(task: TaskFact) -> Happening:
    state = task.state or "running"
    count = f", attempt {task.try_number}" if task.try_number > 1 or state != "success" else ""
    begun: Any = task.started_at
    took = f" after {(task.ended_at - begun).total_seconds():.0f} s" if task.ended_at else ""
    is_bad = state in {"failed", "up_for_retry"}
    word = "failed, to be tried again" if state == "up_for_retry" else state
    return Happening(
        task.ended_at or begun,
        "task",
        f"{task.task_id}{count}: {word}{took}",
        is_bad=is_bad,
        is_routine=not is_bad and task.try_number <= 1,
        task_id=task.task_id,
    )


def _judged(run: Run) -> Iterator[Happening]:
    committed = read_records(run, Publication)
    for table, verdict in read_records(run, Verdict).items():
        rules = f": {', '.join(verdict.failed_rules)}" if verdict.failed_rules else ""
        bad = f"{verdict.rows_refused:,} of {verdict.rows:,} rows bad"
        made = committed.get(table)
        version = f"; version {made.version}" if made else "; nothing committed"
        yield Happening(
            verdict.validated_at.astimezone(UTC),
            "verdict",
            f"{table} {verdict.outcome}{rules}; {bad}{version}",
            is_bad=not verdict.success or made is None,
            is_routine=verdict.outcome == "passed" and made is not None,
            table=table,
        )
    for table, accepted in read_records(run, Acceptance).items():
        yield Happening(
            datetime.fromisoformat(accepted.accepted_at),
            "decision",
            f"{accepted.accepted_by} accepted {table} ({', '.join(accepted.rules)}): "
            f"{accepted.reason}",
            table=table,
        )


def _told(run: Run, attempts: Sequence[TaskFact]) -> Iterator[Happening]:
    """Yield the messages that the outbox remembers, each looked up by what would have made it."""
    tries = sorted({task.try_number for task in attempts})
    wanted = [
        *(Message(kind, run.run_id, "", ()) for kind in _BY_RUN),  # type: ignore[arg-type]
        *(Message(kind, f"{run.run_id}|{n}", "", ()) for kind in _BY_TRY for n in tries),  # type: ignore[arg-type]
        *(
            Message(kind, f"{run.run_id}|{task.task_id}|{task.try_number}", "", ())  # type: ignore[arg-type]
            for kind in _BY_TASK
            for task in attempts
            if task.state == "failed"
        ),
    ]
    for message in wanted:
        at = told_at(message)
        if at:
            about = message.key.split("|")[1] if message.kind in _BY_TASK else "the run"
            text = f"people were told: {message.kind.replace('_', ' ')} of {about}"
            is_routine = message.kind == "success"
            yield Happening(at, "message", text, is_routine=is_routine)


def _decided(run: Run, begin: datetime | None, end: datetime) -> Iterator[Happening]:
    del run
    for decision in read_decisions():
        at = datetime.fromisoformat(decision.decided_at)
        if begin is not None and begin <= at <= end:
            yield Happening(at, "decision", str(decision), is_bad=decision.is_stopped)


def _refused(run: Run) -> Iterator[Happening]:
    rows = ask(
        DEAD_LETTERS.name,
        "select source, event, reason, count(*), min(recorded_at) from ({}) "
        f"where run_id = {quote(run.run_id)} group by all",
    )
    for source, event, reason, count, at in rows:
        text = f"{count:,} records of {source} {event}: {reason}"
        yield Happening(at.astimezone(UTC), "letters", text, table=source)
