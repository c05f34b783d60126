"""The quality report: one self-contained HTML page about the newest run and the days before it.

It reads `ops.quality_results` and the dead letters' reasons: counts and names, no value of a row
but the examples of public columns. The page loads nothing, so it reads offline.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from include.chimera.contracts import DEAD_LETTERS, PARTITION, QUALITY_RESULTS
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.records import read_records
from include.chimera.lake.staged.verdicts import RATIO_RULE, Verdict
from include.chimera.lake.store.duckdb_sessions import connect, quote
from include.chimera.quality.anomalies import PREFIX
from include.chimera.quality.rules.book import Rule, rule_books
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from include.chimera.window import Run

Record = dict[str, Any]
Examples = dict[tuple[str, str], tuple[tuple[str, int], ...]]  # by table and rule id
DAYS, TREND = 7, 24
LAYERS = ("bronze", "silver", "gold")


@dataclass
class TableReport:
    """One table: its verdict in the run, and its rules with their trends.

    Args:
        name: `<layer>.<table>`.
        newest: Newest row of the gate as a whole (`min_pass_ratio`).
        is_judged: Whether that is the run's own; else its gate did not judge in this run.
        ratios: Pass ratios of the last runs, oldest first.
        rules: One record per rule.
        anomalies: Rule ids of what was unusual in the newest run.
    """

    name: str
    newest: Record
    is_judged: bool
    ratios: list[float] = field(default_factory=list)
    rules: list[Record] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)


def report_path() -> Path:
    """Return where the report is written."""
    return get_settings().state_dir / "reports" / "quality.html"


def write_report(run: Run, run_url: str = "") -> Path:
    """Write the page and return where; the whole page or none.

    Args:
        run: The newest run; rows of the seven days before it are looked at.
        run_url: Link to a DAG run, `{run_id}` where its id goes; empty: no links.
    """
    rows = _rows(
        QUALITY_RESULTS.name,
        run,
        "select * exclude (_window_hour) from rows order by window_start, recorded_at",
    )
    verdicts = read_records(run, Verdict)
    rows = [row for row in rows if _is_told(row, run, verdicts)]
    letters = _rows(
        DEAD_LETTERS.name,
        run,
        "select source, stage, reason, count(distinct letter_id) as count from rows "
        "where event = 'refused' group by all order by count desc, source, reason",
        # A letter may be of an hour long ago, or of none: what counts is when it was refused.
        since=f"recorded_at >= {quote((run.window.start - timedelta(days=DAYS)).isoformat())}",
    )
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            made_at=datetime.now(UTC),
            layers=_layers(rows, run, _examples(verdicts)),
            letters=letters,
            runs=_runs(rows, run_url),
            days=DAYS,
        )
    )
    path = report_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    return temporary.replace(path)


def _rows(name: str, run: Run, query: str, since: str = "") -> list[Record]:
    table = open_table(name)
    if table is None:
        return []
    first = hour_label(run.window.start - timedelta(days=DAYS))
    with connect() as connection:
        source = f"{scan(table, name)} where {since or f'{PARTITION} >= {quote(first)}'}"
        found = connection.execute(f"with rows as ({source}) {query}").to_arrow_table()
        return list(found.to_pylist())


def _is_told(row: Record, run: Run, verdicts: Mapping[str, Verdict]) -> bool:
    """Tell whether a row is of an hour before, or of what the run's gates said last.

    Not of the run's former attempts, of other runs of its hour, or of hours after it.
    """
    if row["window_start"] < run.window.start:
        return True
    verdict = verdicts.get(row["table_name"])
    said_at = verdict.validated_at if verdict else None
    return bool(row["run_id"] == run.run_id and row["recorded_at"] == said_at)


def _examples(verdicts: Mapping[str, Verdict]) -> Examples:
    """Return the values of public columns that broke rules in the run."""
    return {
        (table, rule.rule_id): rule.examples
        for table, verdict in verdicts.items()
        for rule in verdict.results
    }


def _layers(rows: list[Record], run: Run, examples: Examples) -> dict[str, list[TableReport]]:
    by_table: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_table[row["table_name"]][row["rule_id"]].append(row)
    layers: dict[str, list[TableReport]] = {layer: [] for layer in LAYERS}
    for book in rule_books():
        history = by_table.get(book.table)
        if history:
            report = _table(book.table, history, run, book.rules, examples)
            layers[Relation.parse(book.table).schema].append(report)
    return layers


def _table(
    name: str,
    history: dict[str, list[Record]],
    run: Run,
    rules: Iterable[Rule],
    examples: Examples,
) -> TableReport:
    gates = history[RATIO_RULE]
    newest = gates[-1]
    is_judged = newest["run_id"] == run.run_id
    report = TableReport(name, newest, is_judged, [row["pass_ratio"] for row in gates[-TREND:]])
    if not is_judged:
        return report
    for rule in rules:
        trend = history.get(rule.rule_id, [])[-TREND:]
        if trend:
            record = {"rule": rule, "newest": trend[-1], "trend": [_state(row) for row in trend]}
            shown = examples.get((name, rule.rule_id), ()) if rule.is_public else ()
            report.rules.append({**record, "state": _state(trend[-1]), "examples": shown})
    report.rules.sort(
        key=lambda record: ("failed", "raised", "warned", "some", "passed").index(record["state"])
    )
    report.anomalies = [
        rule_id.removeprefix(PREFIX)
        for rule_id, found in sorted(history.items())
        if rule_id.startswith(PREFIX)
        and not found[-1]["is_passed"]
        and found[-1]["recorded_at"] == newest["recorded_at"]
    ]
    return report


def _state(row: Record) -> str:
    """Say in one word how a rule ended: `some` rows broke it, and it held all the same."""
    if row["error"]:
        return "raised"
    if not row["is_passed"]:
        return "failed" if row["severity"] == "critical" else "warned"
    return "some" if row["unexpected_count"] else "passed"


def _runs(rows: list[Record], run_url: str) -> list[Record]:
    """Return the last runs, newest first, with how many gates ended how."""
    found: dict[str, Record] = {}
    for row in rows:
        if row["rule_id"] == RATIO_RULE:
            entry = found.setdefault(
                row["run_id"],
                {
                    "run_id": row["run_id"],
                    "correlation_id": row["correlation_id"],
                    "window_start": row["window_start"],
                    "url": run_url.replace("{run_id}", row["run_id"]),
                    "verdicts": {},
                },
            )
            entry["verdicts"][row["table_name"]] = row["verdict"]
    newest = sorted(found.values(), key=lambda entry: entry["window_start"], reverse=True)[:TREND]
    return [{**entry, "counts": Counter(entry["verdicts"].values())} for entry in newest]


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
