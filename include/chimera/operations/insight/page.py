"""Write the insight page: one self-contained HTML file about gold, as one run left it.

Each topic is a query of one gold table, in `queries/`. The page shows the very query, with its
hours filled in, beside what it found, so that whoever has `views.sql` can ask it again. It holds
aggregates by provider, model and technique alone, loads nothing, and works offline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import jinja2
from markupsafe import Markup

from include.chimera.errors import CLI
from include.chimera.lake.delta.scans import relation_of, scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, identifier, quote
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.operations.insight import charts
from include.chimera.profiles.chosen import filled_tables
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, hour_label, parse_hour

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.chimera.lake.ops_tables.consistent_snapshots import Snapshot
    from include.chimera.operations.insight.charts import Figure, Row

HOURLY, DAILY = "gold.agg_provider_hourly", "gold.agg_usage_daily"
ATTACKS, ATTACK_DAYS = "gold.agg_technique_by_framework", "gold.agg_technique_daily"
# The partition column of each table, and how far back the topics look.
_SPANS: dict[str, tuple[str, timedelta | None]] = {
    HOURLY: ("_window_hour", timedelta(weeks=2)),
    DAILY: ("_window_day", timedelta(weeks=4)),
    ATTACK_DAYS: ("_window_day", timedelta(weeks=12)),
    ATTACKS: ("", None),
}
_AGO = {
    "day_ago": timedelta(days=1),
    "week_ago": timedelta(weeks=1),
    "two_weeks_ago": timedelta(weeks=2),
    "four_weeks_ago": timedelta(weeks=4),
    "twelve_weeks_ago": timedelta(weeks=12),
}
MOST_ROWS = 200  # of a topic's table on the page
UNKNOWN = "\N{EN DASH}"
_FOLDER = Path(__file__).parent
_LATE = 3 * HOUR
CALLS, JUDGED, WATCHED = (
    "bronze.generations",
    "bronze.evaluations",
    "bronze.provider_metrics",
)
# How the columns begin that are made of each, where a topic shows both.
_COLUMNS = {
    CALLS: ("cost_", "request_", "success_", "failed_", "filtered_"),
    WATCHED: ("availability_",),
}


@dataclass(frozen=True)
class Topic:
    """A question that the page answers.

    Args:
        name: Its place in the page, and the name of its query's file.
        title: Its heading.
        text: What it shows, and how to read it.
        table: The table that its query reads.
        needs: The bronze tables that it is about; without any of them there is nothing to show.
        draw: Turns the query's rows, at least one, into figures; none: a table of numbers only.
    """

    name: str
    title: str
    text: str
    table: str
    needs: tuple[str, ...]
    draw: Callable[[Sequence[Row]], list[Figure]] | None = None


TOPICS = (
    Topic(
        "changes",
        "What changed since last week",
        "The newest 168 hours (now) beside the 168 before them (before). Where their numbers of "
        "hours differ, sums do not compare.",
        HOURLY,
        (CALLS, WATCHED),
    ),
    Topic(
        "cost", "Cost per day", "By provider; within a bar, by model.", DAILY, (CALLS,), charts.cost
    ),
    Topic(
        "cost_of_week",
        "Cost of the last seven days",
        "The newest day, which is incomplete until it ends, and the six before it. Unpriced are "
        "requests to models of which no cost was reported that day. One call without a cost, such "
        "as a failed one, adds nothing to a sum, and gold does not tell it apart.",
        DAILY,
        (CALLS,),
    ),
    Topic(
        "requests",
        "Requests and success",
        "Filtered: a safety filter stopped it. Failed: the provider or the platform broke.",
        DAILY,
        (CALLS,),
        charts.requests,
    ),
    Topic(
        "availability",
        "Availability per day",
        "The mean of the provider's own health samples, not of requests; a blank has no samples.",
        DAILY,
        (WATCHED,),
        charts.availability,
    ),
    Topic(
        "latency",
        "Latency per hour",
        "Percentiles of successful requests in the last seven days, in milliseconds, by model. "
        "Those of several hours can't be averaged, so each hour has its own.",
        HOURLY,
        (CALLS,),
        charts.latency,
    ),
    Topic(
        "tokens", "Tokens per day", "As the sources report them.", DAILY, (CALLS,), charts.tokens
    ),
    Topic(
        "attacks",
        "Which model resists which technique",
        "Share of judged trials in which the attack succeeded, over all time, by tool; the line is "
        "the 95 % Wilson interval: the longer, the less is known. Best resisted first.",
        ATTACKS,
        (JUDGED,),
        charts.attacks,
    ),
    Topic(
        "attacks_by_week",
        "Attack success by week",
        "The same share by the week in which a trial began, all tools together, with its interval.",
        ATTACK_DAYS,
        (JUDGED,),
        charts.attacks_by_week,
    ),
    Topic(
        "attack_changes",
        "Attack success since last week",
        "The newest seven days with evaluations (now) beside the seven before them (before). The "
        "largest change first; few trials change by chance.",
        ATTACK_DAYS,
        (JUDGED,),
    ),
    Topic(
        "hours",
        "Requests per hour",
        "The last seven days, by provider. A gap is an hour without rows.",
        HOURLY,
        (CALLS,),
        charts.hours,
    ),
    Topic(
        "hour",
        "The newest hour beside the day before",
        "The same hour of both days (now, before), the largest loss first. Gold can't tell what "
        "never came: the last question of docs/read.md adds refused rows, rows that came late and "
        f"sources that were lost; `{CLI} gaps` lists hours that are missing.",
        HOURLY,
        (CALLS, WATCHED),
    ),
)


@dataclass
class Answer:
    """What a topic's query found; `problem` says why there is nothing to show."""

    topic: Topic
    query: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    problem: str = ""


def insight_place() -> str:
    """Return the page's place."""
    return f"{get_settings().reports}/insight.html"


def write_insight(snapshot: Snapshot) -> str:
    """Write the page of a snapshot's gold tables atomically, and return its place.

    A table or a column that the snapshot lacks is said on the page, and fails nothing.

    Raises:
        LakeError: The disk or store failed.
    """
    with storage_errors("writing the insight page"):
        storage.write_text(insight_place(), render(snapshot, datetime.now(UTC)))
    return insight_place()


def render(snapshot: Snapshot, made_at: datetime) -> str:
    """Return the page's HTML."""
    with connect() as connection:
        newest = {
            name: label
            for name in _SPANS
            if name in snapshot.versions
            and (label := _load(connection, name, snapshot.versions[name])) is not None
        }
        answers = [_answer(connection, topic, newest) for topic in TOPICS]
    hour = parse_hour(newest[HOURLY]) if newest.get(HOURLY) else None
    figures = [figure for answer in answers for figure in answer.figures]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            snapshot=snapshot,
            tables={name: snapshot.versions.get(name) for name in _SPANS},
            made_at=made_at,
            cli=CLI,
            hour=hour,
            is_late=hour is not None and made_at - hour > _LATE,
            answers=answers,
            total=_total(answers[0]),
            specs=[figure.spec for figure in figures],
            most_rows=MOST_ROWS,
            scripts=[
                Markup((_FOLDER / "vega" / f"{name}.min.js").read_text())  # noqa: S704 - vendored
                for name in ("vega", "vega-lite", "vega-embed")
            ],
        )
    )


def _load(connection: duckdb.DuckDBPyConnection, name: str, version: int) -> str | None:
    """Copy what the topics need of a table into the session, in one scan.

    Returns:
        The label of its newest partition, "" if it has no partitions; None if it has no rows.
    """
    table = open_table(name, version)
    if table is None:
        return None
    column, span = _SPANS[name]
    newest, rows = "", scan(table, name)
    if span is not None:
        newest = max((str(values[column]) for values in table.partitions()), default="")
        rows += f" where {identifier(column)} > {quote(_label(newest, span))}" if newest else ""
    connection.execute("create schema if not exists gold")
    connection.execute(f"create table {relation_of(name)} as {rows}")
    (count,) = connection.execute(f"select count(*) from {relation_of(name)}").fetchone() or (0,)
    return newest if count else None


def _label(newest: str, ago: timedelta) -> str:
    """Return the label of the partition that lies before another by a time."""
    if "T" in newest:
        return hour_label(parse_hour(newest) - ago)
    return hour_label(parse_hour(f"{newest}T00") - ago)[:8]


def _answer(connection: duckdb.DuckDBPyConnection, topic: Topic, newest: dict[str, str]) -> Answer:
    answer = Answer(topic)
    absent = [table for table in topic.needs if table not in filled_tables()]
    if len(absent) == len(topic.needs):
        answer.problem = (
            f"{' and '.join(absent)}: no chosen profile ({get_settings().profile}) "
            "reads such rows, so it is unknown, not zero."
        )
        return answer
    if topic.table not in newest:
        answer.problem = f"{topic.table} has no rows in this snapshot."
        return answer
    answer.query = _query(topic, newest[topic.table])
    try:
        found = connection.execute(answer.query)
    except duckdb.BinderException as error:
        reason = str(error).partition("\n")[0].removeprefix("Binder Error: ")
        answer.problem = f"{topic.table} is of an older release: {reason}"
        return answer
    answer.columns = [column[0] for column in found.description or ()]
    answer.rows = [dict(zip(answer.columns, row, strict=True)) for row in found.fetchall()]
    # Gold has zeros, not nulls, for calls to a model that is watched while nobody reports calls.
    unknown = tuple(name for table in absent for name in _COLUMNS[table])
    answer.columns = [name for name in answer.columns if not name.startswith(unknown)]
    if not answer.rows:
        answer.problem = f"{topic.table} has no such rows in these days."
    elif topic.draw:
        answer.figures = topic.draw(answer.rows)
        if not answer.figures:
            answer.problem = f"No row of {topic.table} has such a value: no source reports it."
    return answer


def _query(topic: Topic, newest: str) -> str:
    """Return a topic's query with the partitions' labels in it, by which readers skip files."""
    text = (_FOLDER / "queries" / f"{topic.name}.sql").read_text().strip()
    labels = {"newest": newest}
    if newest:
        labels |= {name: _label(newest, ago) for name, ago in _AGO.items()}
    return re.sub(r"\$(\w+)", lambda found: quote(labels[found[1]]), text)


def _total(changes: Answer) -> Row | None:
    """Return what is known of all providers together."""
    return {name: changes.rows[0][name] for name in changes.columns} if changes.rows else None


def heading(column: str) -> str:
    """Return a column's name for people, with its unit."""
    words = column.replace("_count", "s").replace("_ratio", "").removesuffix("_id")
    words = re.sub(r"_(usd|ms)\b|_(usd|ms)(?=_)", "", words).replace("_", " ")
    unit = {"usd": ", USD", "ms": ", ms"}
    return words + "".join(text for sign, text in unit.items() if f"_{sign}" in column)


def cell(value: object, column: str) -> str:
    """Return a value for people; what is unknown is never a number."""
    if value is None:
        return "all" if column in ("provider_id", "model_id") else UNKNOWN
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return _number(value, column) if isinstance(value, int | float | Decimal) else str(value)


def _number(value: float | Decimal, column: str) -> str:
    if "_ratio" in column:
        return f"{value:.1%}"
    if isinstance(value, int) or "_ms" in column:
        return f"{value:,.0f}"
    size = abs(float(value))
    if size >= 1 or not size:
        return f"{value:,.2f}"
    return f"{value:.4f}" if size >= 0.0001 else f"{value:.1e}"  # noqa: PLR2004 - else it is 0.0000


def change(now: Decimal | float | None, before: Decimal | float | None) -> str:
    """Return by how much a sum changed; "" if there is nothing to compare it with."""
    return f"{float(now) / float(before) - 1:+.1%}" if now is not None and before else ""


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"heading": heading, "cell": cell}
    environment.globals |= {
        "change": change,
        "is_text": lambda value: isinstance(value, str | date),
    }
    return environment
