"""What is known of the last hours: from the lake's own records, and from the scheduler's.

The scheduler's are handed in, because this room does not know Airflow. Everything is read at once:
a page shows one moment.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.chimera.contracts import DEAD_LETTERS, PARTITION, QUALITY_RESULTS, WINDOW_LEDGER
from include.chimera.lake.dead_letters.letters import letter_states
from include.chimera.lake.delta.scans import live_rows
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.stop_switch import read_decisions
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import read_records
from include.chimera.lake.staged.verdicts import RATIO_RULE, Verdict
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, quote
from include.chimera.window import HOUR, Run, Window, floor_hour, hour_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.contracts import Contract
    from include.chimera.lake.publish.stop_switch import Decision

HOURS = 24  # that are shown one by one
BUDGET_DAYS = 30
_READ_DIRECTLY = 3  # runs whose records are read, because their results may not be appended yet


@dataclass(frozen=True)
class TaskFact:
    """One task of a run, as the scheduler knows it; a time is None until it is known.

    Args:
        task_id: With its group.
        state: The scheduler's word; None: it has not been looked at.
        try_number: Attempts begun, those before a clearing included.
        started_at: Begin of the newest attempt, UTC.
        ended_at: Its end, UTC.
    """

    task_id: str
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def name(self) -> str:
        """The id without its group."""
        return self.task_id.rpartition(".")[2]


@dataclass(frozen=True)
class RunFact:
    """One run of the hourly DAG, as the scheduler knows it."""

    run: Run
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    tasks: dict[str, TaskFact] = field(default_factory=dict)  # by name without group


@dataclass(frozen=True)
class GateFact:
    """One verdict of a table's gate.

    Args:
        table: `<layer>.<table>`.
        run_id: The run.
        window: The run's hours.
        outcome: passed, warned, accepted or failed.
        rows: Rows staged.
        rows_refused: Rows that break a critical rule or could not be parsed.
        failed_rules: Critical rules that broke, by id.
        said_at: When, UTC.
        accepted_by: Who let it through; None: nobody.
        accepted_reason: Why.
        is_committed: Whether the rows are in the table; None: this record does not say.
        warned_rules: Other rules that broke, and what was unlike former hours, by id.
    """

    table: str
    run_id: str
    window: Window
    outcome: str
    rows: int
    rows_refused: int
    failed_rules: tuple[str, ...]
    said_at: datetime
    accepted_by: str | None
    accepted_reason: str | None
    is_committed: bool | None = None
    warned_rules: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The outcome, or warned: what compares hours speaks only after the verdict."""
        return "warned" if self.outcome == "passed" and self.warned_rules else self.outcome


@dataclass(frozen=True)
class LetterFact:
    """Letters of one table with one reason that wait for a replay."""

    source: str
    stage: str
    reason: str
    count: int
    oldest: datetime


@dataclass(frozen=True)
class Known:
    """All that is known at one moment.

    Args:
        now: The moment, UTC.
        runs: Runs of the hourly DAG, the newest last; empty where the scheduler was not asked.
        gates: Verdicts of the last hours, the newest last.
        published: Starts of the hours in the ledger, by bronze table.
        months: By table, bounds of the hours and the time of the first good verdict in the last 30
            days; None: not read (see `look_further`).
        letters: What waits for a replay; None: not read.
        decisions: Who stopped and resumed publishing, the newest last.
        is_paused: Whether the hourly DAG is paused; None: the scheduler was not asked.
    """

    now: datetime
    runs: Sequence[RunFact] = ()
    gates: Sequence[GateFact] = ()
    published: dict[str, set[datetime]] = field(default_factory=dict)
    months: dict[str, list[tuple[Window, datetime]]] | None = None
    letters: Sequence[LetterFact] | None = None
    decisions: Sequence[Decision] = ()
    is_paused: bool | None = None

    @property
    def stop(self) -> Decision | None:
        """The decision that keeps publishing stopped; None: it goes on."""
        newest = self.decisions[-1] if self.decisions else None
        return newest if newest and newest.is_stopped else None

    def was_stopped(self, moment: datetime) -> bool:
        """Was publishing stopped at a moment?"""
        made = [each for each in self.decisions if datetime.fromisoformat(each.decided_at) < moment]
        return bool(made and made[-1].is_stopped)

    def run(self, run_id: str) -> RunFact | None:
        """Return a run by its id."""
        return next((each for each in self.runs if each.run.run_id == run_id), None)


def look(now: datetime) -> Known:
    """Read the lake's own records of the last day at once.

    Raises:
        LakeError: The lake can't be read.
    """
    tables = _opened(QUALITY_RESULTS, WINDOW_LEDGER)
    since = floor_hour(now) - (HOURS + 1) * HOUR
    with connect() as session:
        gates = _judged(session, tables, since)
        published = _published(session, tables, floor_hour(now) - BUDGET_DAYS * 24 * HOUR)
    return Known(now, (), gates, published, decisions=read_decisions())


def look_further(known: Known) -> Known:
    """Add the month and the dead letters: a file for each hour has to be opened.

    Raises:
        LakeError: The lake can't be read.
    """
    tables = _opened(QUALITY_RESULTS, DEAD_LETTERS)
    since = floor_hour(known.now) - (BUDGET_DAYS * 24 + 2) * HOUR  # the newest may not be due yet
    with connect() as session:
        months = _first_good(session, tables, since)
        letters = _letters(session) if DEAD_LETTERS.name in tables else []
    return replace(known, months=months, letters=letters)


def _opened(*contracts: Contract) -> dict[str, DeltaTable]:
    names = [contract.name for contract in contracts]
    opened = zip(names, storage.at_once(open_table, names), strict=True)
    return {name: table for name, table in opened if table is not None}


def with_runs(known: Known, runs: Sequence[RunFact], *, is_paused: bool | None) -> Known:
    """Add what the scheduler knows, and the newest runs' records, which may not be appended yet.

    Args:
        known: What the lake knows.
        runs: The scheduler's runs, the newest last.
        is_paused: Whether the hourly DAG is paused.

    Raises:
        LakeError: A run's records can't be read.
    """
    direct = _direct([each.run for each in runs[-_READ_DIRECTLY:]])
    newest = {(fact.table, fact.run_id, fact.said_at): fact for fact in known.gates}
    for fact in direct:
        name = (fact.table, fact.run_id, fact.said_at)
        warned = {*fact.warned_rules, *(newest[name].warned_rules if name in newest else ())}
        newest[name] = replace(fact, warned_rules=tuple(sorted(warned)))
    gates = sorted(newest.values(), key=lambda fact: fact.said_at)
    return replace(known, runs=runs, gates=gates, is_paused=is_paused)


def _rows(tables: dict[str, DeltaTable], contract: Contract, since: datetime) -> str | None:
    table = tables.get(contract.name)
    if table is None:
        return None
    recent = f"{PARTITION} >= {quote(hour_label(since))}"
    if not contract.partition_by:
        recent = f"window_start >= timestamptz {quote(since.isoformat())}"
    return f"select * from ({live_rows(table, contract)}) where {recent}"


def _judged(
    session: DuckDBPyConnection, tables: dict[str, DeltaTable], since: datetime
) -> list[GateFact]:
    rows = _rows(tables, QUALITY_RESULTS, since)
    if rows is None:
        return []
    whole = f"rule_id = {quote(RATIO_RULE)}"
    found = session.execute(
        f"""
        select table_name, run_id, window_start, window_end, verdict,
            coalesce(max(checked_count) filter (where {whole}), 0),
            coalesce(max(unexpected_count) filter (where {whole}), 0),
            coalesce(
                list(rule_id order by rule_id)
                    filter (where not is_passed and severity = 'critical'),
                []
            ),
            recorded_at, any_value(accepted_by), any_value(accepted_reason),
            coalesce(
                list(rule_id order by rule_id)
                    filter (where not is_passed and severity <> 'critical'),
                []
            )
        from ({rows})
        where {whole} or not is_passed
        group by table_name, run_id, window_start, window_end, verdict, recorded_at
        order by recorded_at
        """
    ).fetchall()
    return [
        GateFact(
            *(table, run_id, Window(start, end), word, rows, bad, tuple(rules), at),
            *(who, why, None, tuple(warned)),
        )
        for table, run_id, start, end, word, rows, bad, rules, at, who, why, warned in found
    ]


def _first_good(
    session: DuckDBPyConnection, tables: dict[str, DeltaTable], since: datetime
) -> dict[str, list[tuple[Window, datetime]]]:
    rows = _rows(tables, QUALITY_RESULTS, since)
    found: dict[str, list[tuple[Window, datetime]]] = defaultdict(list)
    asked = (
        f"select table_name, window_start, window_end, min(recorded_at) from ({rows}) "
        f"where rule_id = {quote(RATIO_RULE)} and verdict <> 'failed' group by all"
    )
    for table, start, end, at in session.execute(asked).fetchall() if rows else ():
        found[table].append((Window(start, end), at))
    return dict(found)


def _published(
    session: DuckDBPyConnection, tables: dict[str, DeltaTable], since: datetime
) -> dict[str, set[datetime]]:
    rows = _rows(tables, WINDOW_LEDGER, since)
    found: dict[str, set[datetime]] = defaultdict(set)
    asked = f"select distinct table_name, window_start, window_end from ({rows})"
    for table, start, end in session.execute(asked).fetchall() if rows else ():
        found[table].update(hour.start for hour in Window(start, end).hours())
    return dict(found)


def _letters(session: DuckDBPyConnection) -> list[LetterFact]:
    rows: list[tuple[Any, ...]] = session.execute(
        "select source, stage, last_reason, count(*) as count, min(recorded_at) "
        f"from ({letter_states()}) where state = 'waiting' group by all order by count desc, source"
    ).fetchall()
    return [LetterFact(*row) for row in rows]


def _direct(runs: Sequence[Run]) -> list[GateFact]:
    """Return the verdicts in the records of runs, with what became of them."""

    def read(run: Run) -> list[GateFact]:
        committed = read_records(run, Publication)
        return [
            GateFact(
                table,
                run.run_id,
                run.window,
                verdict.outcome,
                verdict.rows,
                verdict.rows_refused,
                verdict.failed_rules,
                verdict.validated_at.astimezone(UTC),
                verdict.accepted_by,
                verdict.accepted_reason,
                table in committed,
                tuple(
                    result.rule_id
                    for result in verdict.results
                    if not (result.is_passed or result.severity == "critical")
                ),
            )
            for table, verdict in read_records(run, Verdict).items()
        ]

    return [fact for facts in storage.at_once(read, runs) for fact in facts]


def due_hours(now: datetime, count: int = HOURS) -> list[datetime]:
    """Return the starts of the last full hours, oldest first."""
    end = floor_hour(now)
    return [end - timedelta(hours=back) for back in range(count, 0, -1)]
