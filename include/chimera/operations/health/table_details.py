"""One table from close by: its rules with their history, its versions, its dead letters."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from include.chimera.contracts import PARTITION, QUALITY_RESULTS
from include.chimera.lake.delta.scans import ask
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.records import read_record
from include.chimera.lake.staged.verdicts import RATIO_RULE, Verdict
from include.chimera.lake.store.duckdb_sessions import quote
from include.chimera.operations.quality_report import STATES, TREND, PastResult
from include.chimera.quality.rules.book import Rule, rule_book
from include.chimera.quality.unusual_hours import PREFIX
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.chimera.lake.staged.verdicts import RuleResult
    from include.chimera.window import Run

_DAYS = 7
_VERSIONS = 25
_WHO = {"accepted_by": "accepted", "restored_by": "restored", "erased_by": "erased"}


@dataclass(frozen=True)
class RuleHistory:
    """One rule with its newest result and what it said before.

    Args:
        rule: The rule, from the table's rule book.
        state: passed, some (held although rows broke it), warned, failed or raised.
        broken: Rows that broke it; None: it counts none.
        observed: The number that it compares; None: it counts rows.
        error: The class of the error that kept it from a result; None: none did.
        trend: Its states in the last runs, oldest first.
    """

    rule: Rule
    state: str
    broken: int | None
    observed: float | None
    error: str | None
    trend: tuple[str, ...]


@dataclass(frozen=True)
class TableVersion:
    """One commit of a table.

    Args:
        version: Its number.
        committed_at: When, UTC.
        operation: Delta's word.
        made_by: The run, or whoever else made it; "": the commit does not say.
        person: What a person decided about it, and who; "": nobody.
        window: The run's hours; "": it was for none.
        rows: Rows that were new; "": the commit does not say.
    """

    version: int
    committed_at: datetime
    operation: str
    made_by: str
    person: str
    window: str
    rows: str


def rule_histories(table: str, run: Run | None, now: datetime) -> list[RuleHistory]:
    """Return a table's rules, the worst first, with their results of the last seven days.

    Args:
        table: `<layer>.<table>`.
        run: The run with the newest verdict, whose record may not be appended yet; None: none is.
        now: The clock, UTC.

    Raises:
        LakeError: The lake can't be read.
    """
    past = _past(table, now)
    verdict = read_record(run, table, Verdict) if run else None
    newest = {result.rule_id: result for result in verdict.results} if verdict else {}
    found = []
    for rule in rule_book(table).rules:
        if rule.rule_id == RATIO_RULE:
            continue
        trend = past.get(rule.rule_id, [])
        told = newest.get(rule.rule_id)
        said_at = verdict.validated_at if verdict else None
        states = [each.state for each in trend if each.recorded_at != said_at]
        if told:
            last, broken = _state(told), told.unexpected_count
            history = RuleHistory(rule, last, broken, told.observed_value, told.error, ())
        elif trend:
            old = trend[-1]
            broken, observed = old.unexpected_count, old.observed_value
            history = RuleHistory(rule, old.state, broken, observed, old.error, ())
            states = states[:-1]
        else:
            continue
        words = (*states, history.state)[-TREND:]
        found.append(RuleHistory(**{**vars(history), "trend": tuple(words)}))
    found += _unusual(past, run)
    return sorted(found, key=lambda each: STATES.index(each.state))


def _unusual(past: Mapping[str, list[PastResult]], run: Run | None) -> Iterator[RuleHistory]:
    """Yield what was unlike the same hour of former days in a run; no rule of the book is it."""
    for name, results in past.items():
        last = results[-1]
        if (
            not name.startswith(PREFIX)
            or last.is_passed
            or run is None
            or last.run_id != run.run_id
        ):
            continue
        hour = last.window_start.hour
        former = [
            each.observed_value
            for each in results[:-1]
            if each.window_start.hour == hour and each.observed_value is not None
        ]
        note = f"The median of this hour on former days is {median(former):,.6g}." if former else ""
        rule = Rule("unusual", (), severity="warning", note=note, name=name)
        trend = tuple(each.state for each in results[-TREND:])
        yield RuleHistory(rule, last.state, None, last.observed_value, None, trend)


def table_versions(table: str) -> list[TableVersion]:
    """Return a table's newest versions, the newest first.

    Raises:
        LakeError: The table can't be read.
    """
    opened = open_table(table, has_files=False)
    return [_version(entry) for entry in opened.history(_VERSIONS)] if opened else []


def _version(entry: Mapping[str, str]) -> TableVersion:
    people = [
        f"{word} by {entry[name]}: {entry.get(name.replace('_by', '_reason'), '')}"
        for name, word in _WHO.items()
        if entry.get(name)
    ]
    made_by = entry.get("run_id", "")
    return TableVersion(
        version=int(entry["version"]),
        committed_at=datetime.fromtimestamp(int(entry["timestamp"]) / 1e3, UTC),
        operation=entry["operation"],
        made_by=made_by,
        person="; ".join(people),
        window=entry.get("window", "").replace(":00:00+00:00", "").replace("/", " to "),
        rows=entry.get("rows_published", "") or _touched(entry),
    )


def _touched(entry: Mapping[str, str]) -> str:
    hours = entry.get("touched_hours", "")
    return f"{len(json.loads(hours))} hours touched" if hours.startswith("[") else ""


def _past(table: str, now: datetime) -> dict[str, list[PastResult]]:
    first = hour_label(now - timedelta(days=_DAYS))
    names = ", ".join(column.name for column in fields(PastResult))
    rows = ask(
        QUALITY_RESULTS.name,
        f"select {names} from ({{}}) where {PARTITION} >= {quote(first)} "
        f"and table_name = {quote(table)} order by recorded_at",
    )
    found: dict[str, list[PastResult]] = defaultdict(list)
    for row in rows:
        result = PastResult(*row)
        found[result.rule_id].append(result)
    return found


def _state(result: RuleResult) -> str:
    if result.error:
        return "raised"
    if not result.is_passed:
        return "failed" if result.severity == "critical" else "warned"
    return "some" if result.unexpected_count else "passed"
