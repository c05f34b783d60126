"""Messages built from facts: names, counts and versions, never a row's content or a secret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from include.chimera.errors import CLI

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.chimera.alerts.causes import Fault
    from include.chimera.lake.staged.reports import Refusals, RunReport
    from include.chimera.lake.staged.verdicts import RuleResult, Verdict
    from include.chimera.window import Run

Kind = Literal["success", "failure", "gate_failure", "late", "recovery", "dead_letters"]
_SHOWN = 8  # names in one line of a message; the rest is counted


@dataclass(frozen=True)
class Message:
    """One alert, before it is rendered for a channel.

    Args:
        kind: What happened.
        key: Identifies the event; each kind and key is sent once.
        title: One line.
        facts: Name and text, in display order.
        steps: What to do next.
        link: Where to look, "" if there is no UI.
    """

    kind: Kind
    key: str
    title: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[str, ...] = ()
    link: str = ""

    @property
    def message_id(self) -> str:
        """Sixteen hex digits, hashed from kind and key."""
        return hashlib.sha256(f"{self.kind}|{self.key}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Affected:
    """The tables that a failure leaves unchanged.

    Args:
        table: The table that the task works on; None: none in particular.
        version: Its live version; None: it has none yet.
        downstream: Tables that would have been built from it.
    """

    table: str | None = None
    version: int | None = None
    downstream: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Return the tables as an alert's facts."""
        lines = []
        if self.table:
            live = "no version yet" if self.version is None else f"version {self.version}"
            lines.append(("live version", f"{self.table} stays at {live}"))
        if self.downstream:
            lines.append(("not updated", shorten(self.downstream)))
        return lines


def success(
    run: Run, key: str, report: RunReport, seconds: float, failed_hours: Sequence[str]
) -> Message:
    """Announce what a run published.

    Args:
        run: The run.
        key: Distinguishes this success of the run from others.
        report: The run's report.
        seconds: Time since the run's start.
        failed_hours: Windows whose announced failure has not been followed by a success.
    """
    facts = [*_summary(report), ("duration", f"{seconds:.0f} s")]
    if failed_hours:
        facts.append(("still failed", shorten(failed_hours)))
    return Message("success", key, f"{run.window} is published", (*facts, *_about(run)))


def recovery(run: Run, key: str, report: RunReport, failed: str) -> Message:
    """Announce that hours are published whose failure was announced before."""
    facts = (("failed before", failed), *_summary(report), *_about(run))
    return Message("recovery", key, f"{run.window} has recovered and is published", facts)


def failure(run: Run, key: str, task_id: str, fault: Fault, affected: Affected) -> Message:
    """Announce that a task failed after its last retry."""
    facts = (("task", task_id), *fault.facts(), *affected.facts(), *_about(run))
    title = f"{run.window}: {task_id} failed"
    return Message("failure", key, title, facts, fault.steps)


def failed_again(run: Run, key: str, tasks: Sequence[str]) -> Message:
    """Announce that a cleared run failed again, with tasks whose failure was announced before."""
    facts = (("still failed, or killed again", shorten(tasks)), *_about(run))
    steps = ("Mend what their own messages say, then clear them with their descendants.",)
    return Message("failure", key, f"{run.window}: the run failed again", facts, steps)


def failed_unmarked(run: Run, key: str, tasks: Sequence[str]) -> Message:
    """Announce that a run failed while the lake could not keep which failures were announced."""
    facts = (("failed, or killed", shorten(tasks)), *_about(run))
    steps = (
        "Let the lake's storage take files again: it could not keep what was told.",
        "Mend what the tasks' own messages say; of a killed one there is none. Then clear them.",
    )
    return Message("failure", key, f"{run.window}: the run failed", facts, steps)


def gate_failure(
    run: Run,
    key: str,
    verdict: Verdict,
    remedies: Mapping[str, str],
    affected: Affected,
) -> Message:
    """Announce that a gate failed: the broken rules and the tables left unchanged.

    Args:
        run: The run.
        key: Distinguishes this verdict from others.
        verdict: The gate's verdict.
        remedies: What to do, by rule id.
        affected: The table and those downstream.
    """
    table, failed = verdict.table, verdict.failed_rules
    results = {result.rule_id: result for result in verdict.results}
    rules = [_rule(name, results.get(name)) for name in failed]
    facts = (
        ("table", table),
        ("broken rules", "; ".join(rules)),
        ("rows", f"{verdict.rows_refused:,} of {verdict.rows:,} bad"),
        *affected.facts(),
        *_about(run),
    )
    steps = (
        *dict.fromkeys(remedies[name] for name in failed if name in remedies),
        f"Look at the staged files: {CLI} staged {table} --run {run.run_id}",
        "Mended at the source: clear the task that staged them, with its descendants.",
        "Right as they are: accept the files, then clear the gate.",
        f"{CLI} accept {table} --run {run.run_id} --reason '…'",
    )
    return Message("gate_failure", key, f"{run.window}: {table} is refused", facts, steps)


def late(run: Run, minutes: float, state: str) -> Message:
    """Announce that a run missed its deadline; once per run."""
    facts = (("late by", f"more than {minutes:g} minutes after it was queued"), ("state", state))
    steps = (
        "Open the run and look at what is running or waits for a retry.",
        "Nothing is lost: tables keep their last good version until their gates pass.",
    )
    title = f"{run.window} is late"
    return Message("late", run.run_id, title, (*facts, *_about(run)), steps)


def dead_letters(run: Run, refusals: Sequence[Refusals], threshold: int) -> Message:
    """Announce that a run's hours have more dead letters than the threshold; once per run."""
    lines = [f"{item.source} {item.reason}: {item.count:,}" for item in refusals]
    total = sum(item.count for item in refusals)
    facts = (
        ("refused", f"{total:,} records, more than {threshold:,}"),
        ("by reason", shorten(lines)),
    )
    steps = (
        f"Look at them: {CLI} dead-letters list",
        "Mend the source or the rule, then trigger the DAG chimera_dead_letter_replay.",
    )
    title = f"{run.window}: {total:,} dead letters"
    return Message("dead_letters", run.run_id, title, (*facts, *_about(run)), steps)


def shorten(names: Sequence[str]) -> str:
    """Join names; for a long list, the first eight and the number of others."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _rule(name: str, result: RuleResult | None) -> str:
    if result is None or result.unexpected_count is None:
        return name
    return f"{name} ({result.unexpected_count:,} of {result.checked_count or 0:,} rows)"


def _summary(report: RunReport) -> list[tuple[str, str]]:
    bronze = [each for each in report.tables if each.table.startswith("bronze.")]
    words = ("read", "published", "refused", "duplicate")
    sums = {word: sum(getattr(each, f"rows_{word}") or 0 for each in bronze) for word in words}
    changed = [each for each in report.tables if each.rows_published != 0]
    good = sum(gate.verdict != "failed" for gate in report.gates)
    warned = [gate.table for gate in report.gates if gate.verdict == "warned"]
    gates = f"{good} of {len(report.gates)} passed"
    return [
        ("rows", ", ".join(f"{count:,} {word}" for word, count in sums.items())),
        ("tables", f"{len(changed)} of {len(report.tables)} with new or changed rows"),
        ("gates", f"{gates}, with warnings: {shorten(warned)}" if warned else gates),
        *((f"held back: {waiting.table}", waiting.text) for waiting in report.held_back),
    ]


def _about(run: Run) -> tuple[tuple[str, str], ...]:
    return ("run", run.run_id), ("correlation id", run.correlation_id)
