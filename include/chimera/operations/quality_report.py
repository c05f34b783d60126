"""The quality report: one self-contained HTML page about the newest run and the days before it.

It shows counts and names from `ops.quality_results` and the dead letters' reasons; the only values
of rows are the examples of public columns. The page loads nothing, so it works offline.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from include.chimera.contracts import DEAD_LETTERS, PARTITION, QUALITY_RESULTS
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.records import read_records
from include.chimera.lake.staged.verdicts import RATIO_RULE, Verdict
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, quote
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.quality.rules.book import Rule, rule_books
from include.chimera.quality.unusual_hours import PREFIX
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from include.chimera.window import Run

Examples = dict[tuple[str, str], tuple[tuple[str, int], ...]]  # by table and rule id
DAYS, TREND = 7, 24
LAYERS = ("bronze", "silver", "gold")
STATES = ("failed", "raised", "warned", "some", "passed")


@dataclass(frozen=True)
class PastResult:
    """A row of `ops.quality_results`: one rule's result in one run, and its gate's verdict."""

    run_id: str
    correlation_id: str
    table_name: str
    rule_id: str
    severity: str
    is_passed: bool
    verdict: str
    checked_count: int | None
    unexpected_count: int | None
    pass_ratio: float | None
    observed_value: float | None
    error: str | None
    gate_seconds: float
    accepted_by: str | None
    accepted_reason: str | None
    window_start: datetime
    recorded_at: datetime

    @property
    def state(self) -> str:
        """The result in one word; `some`: it passed although some rows broke it."""
        if self.error:
            return "raised"
        if not self.is_passed:
            return "failed" if self.severity == "critical" else "warned"
        return "some" if self.unexpected_count else "passed"


@dataclass(frozen=True)
class RuleReport:
    """One rule of a table.

    Args:
        rule: The rule, from the table's rule book.
        newest: Its result in the run.
        trend: Its states in the last runs, oldest first.
        examples: Values that broke it, of public columns only.
    """

    rule: Rule
    newest: PastResult
    trend: list[str]
    examples: tuple[tuple[str, int], ...]

    @property
    def state(self) -> str:
        """The state of the rule in the run."""
        return self.newest.state


@dataclass(frozen=True)
class LetterCount:
    """The count of dead letters with one source, stage and reason."""

    source: str
    stage: str
    reason: str
    count: int


@dataclass
class RunLine:
    """A run and the outcome of each of its gates, by table; `url` is "" if there is no link."""

    run_id: str
    correlation_id: str
    window_start: datetime
    url: str
    verdicts: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """The number of gates by outcome."""
        return Counter(self.verdicts.values())


@dataclass
class TableReport:
    """One table: its verdict in the run, and its rules with their trends.

    Args:
        name: `<layer>.<table>`.
        newest: Newest row of the gate as a whole (`min_pass_ratio`).
        is_judged: Whether that row is from this run; else the gate did not judge in this run.
        ratios: Pass ratios of the last runs, oldest first.
        rules: One report per rule, the worst first.
        anomalies: Rule ids of the anomalies in the newest run.
    """

    name: str
    newest: PastResult
    is_judged: bool
    ratios: list[float | None]
    rules: list[RuleReport] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)


def report_place() -> str:
    """Return the report's place."""
    return f"{get_settings().reports}/quality.html"


def write_report(run: Run, run_url: str = "") -> str:
    """Write the page atomically and return its place.

    Args:
        run: The newest run; rows of the seven days before it are included.
        run_url: Link to a DAG run with the placeholder `{run_id}`; empty: no links.
    """
    names = ", ".join(column.name for column in fields(PastResult))
    query = f"select {names} from rows order by window_start, recorded_at"
    rows = [PastResult(*row) for row in _rows(QUALITY_RESULTS.name, run, query)]
    verdicts = read_records(run, Verdict)
    rows = [row for row in rows if _is_told(row, run, verdicts)]
    letters = _rows(
        DEAD_LETTERS.name,
        run,
        "select source, stage, reason, count(distinct letter_id) as count from rows "
        "where event = 'refused' group by all order by count desc, source, reason",
        # Filter by the time of refusal: a letter's hour may be long ago, or unknown.
        since=f"recorded_at >= {quote((run.window.start - timedelta(days=DAYS)).isoformat())}",
    )
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            made_at=datetime.now(UTC),
            layers=_layers(rows, run, _examples(verdicts)),
            letters=[LetterCount(*letter) for letter in letters],
            runs=_runs(rows, run_url),
            days=DAYS,
        )
    )
    with storage_errors("writing the quality report"):
        storage.write_text(report_place(), page)
    return report_place()


def _rows(name: str, run: Run, query: str, since: str = "") -> list[tuple[Any, ...]]:
    table = open_table(name)
    if table is None:
        return []
    first = hour_label(run.window.start - timedelta(days=DAYS))
    with connect() as connection:
        source = f"{scan(table, name)} where {since or f'{PARTITION} >= {quote(first)}'}"
        return connection.execute(f"with rows as ({source}) {query}").fetchall()


def _is_told(row: PastResult, run: Run, verdicts: Mapping[str, Verdict]) -> bool:
    """Is a row from an earlier hour, or from the last verdict of the run's gates?

    Earlier attempts of the run, other runs of its hour, and later hours are left out.
    """
    if row.window_start < run.window.start:
        return True
    verdict = verdicts.get(row.table_name)
    said_at = verdict.validated_at if verdict else None
    return row.run_id == run.run_id and row.recorded_at == said_at


def _examples(verdicts: Mapping[str, Verdict]) -> Examples:
    """Return the public columns' values that broke rules in the run."""
    return {
        (table, rule.rule_id): rule.examples
        for table, verdict in verdicts.items()
        for rule in verdict.results
    }


def _layers(rows: list[PastResult], run: Run, examples: Examples) -> dict[str, list[TableReport]]:
    by_table: dict[str, dict[str, list[PastResult]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_table[row.table_name][row.rule_id].append(row)
    layers: dict[str, list[TableReport]] = {layer: [] for layer in LAYERS}
    for book in rule_books():
        history = by_table.get(book.table)
        if history:
            report = _table(book.table, history, run, book.rules, examples)
            layers[Relation.parse(book.table).schema].append(report)
    return layers


def _table(
    name: str,
    history: dict[str, list[PastResult]],
    run: Run,
    rules: Iterable[Rule],
    examples: Examples,
) -> TableReport:
    gates = history[RATIO_RULE]
    newest = gates[-1]
    is_judged = newest.run_id == run.run_id
    report = TableReport(name, newest, is_judged, [row.pass_ratio for row in gates[-TREND:]])
    if not is_judged:
        return report
    for rule in rules:
        trend = history.get(rule.rule_id, [])[-TREND:]
        if trend:
            shown = examples.get((name, rule.rule_id), ()) if rule.is_public else ()
            states = [row.state for row in trend]
            report.rules.append(RuleReport(rule, trend[-1], states, shown))
    report.rules.sort(key=lambda each: STATES.index(each.state))
    report.anomalies = [
        rule_id.removeprefix(PREFIX)
        for rule_id, found in sorted(history.items())
        if rule_id.startswith(PREFIX)
        and not found[-1].is_passed
        and found[-1].recorded_at == newest.recorded_at
    ]
    return report


def _runs(rows: list[PastResult], run_url: str) -> list[RunLine]:
    """Return the last runs, newest first, with their gates' outcomes."""
    found: dict[str, RunLine] = {}
    for row in rows:
        if row.rule_id == RATIO_RULE:
            url = run_url.replace("{run_id}", row.run_id)
            line = RunLine(row.run_id, row.correlation_id, row.window_start, url)
            found.setdefault(row.run_id, line).verdicts[row.table_name] = row.verdict
    return sorted(found.values(), key=lambda line: line.window_start, reverse=True)[:TREND]


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
