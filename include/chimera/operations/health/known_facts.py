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
_OPS = (QUALITY_RESULTS, WINDOW_LEDGER, DEAD_LETTERS)
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
        months: Bounds of the hours and the time of the first good verdict in the last 30 days.
        published: Starts of the hours in the ledger, by bronze table.
        letters: What waits for a replay.
        decisions: Who stopped and resumed publishing, the newest last.
        is_paused: Whether the hourly DAG is paused; None: the scheduler was not asked.
    """

    now: datetime
    runs: Sequence[RunFact] = ()
    gates: Sequence[GateFact] = ()
    months: dict[str, list[tuple[Window, datetime]]] = field(default_factory=dict)
    published: dict[str, set[datetime]] = field(default_factory=dict)
    letters: Sequence[LetterFact] = ()
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
    """Read the lake's own records at once.

    Raises:
        LakeError: The lake can't be read.
    """
    names = [contract.name for contract in _OPS]
    opened = zip(names, storage.at_once(open_table, names), strict=True)
    tables = {name: table for name, table in opened if table is not None}
    since = floor_hour(now) - (BUDGET_DAYS * 24 + 2) * HOUR  # the newest may not be due yet
    with connect() as session:
        gates, first_good = _judged(session, tables, now, since)
        published = _published(session, tables, since)
        letters = _letters(session) if DEAD_LETTERS.name in tables else []
    return Known(now, (), gates, first_good, published, letters, read_decisions())


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
    newest = {(fact.table, fact.run_id, fact.said_at): fact for fact in (*known.gates, *direct)}
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
    session: DuckDBPyConnection, tables: dict[str, DeltaTable], now: datetime, since: datetime
) -> tuple[list[GateFact], dict[str, list[tuple[Window, datetime]]]]:
    rows = _rows(tables, QUALITY_RESULTS, since)
    if rows is None:
        return [], {}
    whole = f"rule_id = {quote(RATIO_RULE)}"
    session.execute(
        "create temp table judged as select table_name, run_id, window_start, window_end, verdict, "
        "rule_id, severity, is_passed, checked_count, unexpected_count, accepted_by, "
        f"accepted_reason, recorded_at from ({rows}) where {whole} or not is_passed"
    )
    found = session.execute(
        f"""
        select table_name, run_id, window_start, window_end, verdict,
            coalesce(max(checked_count) filter (where {whole}), 0),
            coalesce(max(unexpected_count) filter (where {whole}), 0),
            coalesce(list(rule_id) filter (where not is_passed and severity = 'critical'), []),
            recorded_at, any_value(accepted_by), any_value(accepted_reason)
        from judged where window_end > $1
        group by table_name, run_id, window_start, window_end, verdict, recorded_at
        """,
        [floor_hour(now) - HOURS * HOUR],
    ).fetchall()
    gates = [
        GateFact(
            table, run_id, Window(start, end), word, rows, bad, tuple(rules), said_at, *accepted
        )
        for table, run_id, start, end, word, rows, bad, rules, said_at, *accepted in found
    ]
    first_good: dict[str, list[tuple[Window, datetime]]] = defaultdict(list)
    for table, start, end, said_at in session.execute(
        "select table_name, window_start, window_end, min(recorded_at) from judged "
        f"where {whole} and verdict <> 'failed' group by table_name, window_start, window_end"
    ).fetchall():
        first_good[table].append((Window(start, end), said_at.astimezone(UTC)))
    return gates, dict(first_good)


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
            )
            for table, verdict in read_records(run, Verdict).items()
        ]

    return [fact for facts in storage.at_once(read, runs) for fact in facts]


def due_hours(now: datetime, count: int = HOURS) -> list[datetime]:
    """Return the starts of the last full hours, oldest first."""
    end = floor_hour(now)
    return [end - timedelta(hours=back) for back in range(count, 0, -1)]
