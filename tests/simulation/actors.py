"""Who works in the world: the hours of the pipeline, upkeep, people; each by the product's code.

What Airflow does is here: tasks in their order, a new attempt for one that failed or whose
heartbeat is lost, nothing after a gate that refused.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.chimera.errors import (
    ControlRefusedError,
    GateFailedError,
    LogDamagedError,
    NothingToAcceptError,
    PublishingStoppedError,
    ShrinkError,
    VerificationError,
)
from include.chimera.lake.dbt_plugin.materializations import Order
from include.chimera.lake.dbt_plugin.session import Session
from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.publish.stop_switch import newest_decision
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.records import read_record
from include.chimera.lake.store import duckdb_sessions
from include.chimera.lake.upkeep.optimization import maintain, optimize_layer
from include.chimera.operations.manual_controls import (
    restore,
    resume_publishing,
    stop_publishing,
)
from include.chimera.operations.replay import replay
from include.chimera.profiles.chosen import intake_of
from include.chimera.quality.acceptance import Acceptance, accept
from include.chimera.quality.gate import open_gate
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.postgres.deletions import extract_deletions
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.sources.postgres.late_rows import extract_late_rows
from include.chimera.window import Run, Window
from tests.simulation import seam
from tests.simulation.application import POISON
from tests.simulation.world import HOUR, START, Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

GENERATIONS, LOGS = "bronze.generations", "bronze.api_logs"
LATEST, HOURLY, DEV = "silver.stg_app__generations", "gold.agg_provider_hourly", "dev.orders"
_ATTEMPTS = 12
# What the product itself says of a fault of its own: never right, whatever happened before.
NEVER_RIGHT = (VerificationError, ShrinkError)  # no source here ever loses a line


class GaveUpError(AssertionError):
    """A task that fails each time, without a reason that a person could mend."""


@dataclass
class People:
    """Starts processes of the product, as Airflow and people do."""

    world: World
    is_stopped: bool = False
    accepts: bool = False
    hours: int = 0
    _ends: list[Callable[[], bool]] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)

    def start(self, kind: str) -> None:
        """Start one actor of a kind."""
        number = self._numbers[kind] = self._numbers.get(kind, -1) + 1
        work = getattr(self, f"_{kind}")
        self.world.spawn(f"{kind}{number}", lambda: work(number))

    # -- as Airflow does ------------------------------------------------------------------------

    def _task(self, name: str, work: Callable[[], Any]) -> Any:
        """Run a task until an attempt succeeds; raise what no further attempt would mend."""
        for number in range(_ATTEMPTS):
            attempt = self.world.spawn(f"{name}#{number}", work, is_mortal=True)
            self.world.wait(lambda attempt=attempt: attempt.is_over or attempt.is_stalled)
            if attempt.is_dead or not attempt.is_over:
                continue
            error = attempt.error
            if error is None:
                return attempt.result
            self.world.note("error", task=name, error=type(error).__name__, text=str(error))
            if isinstance(error, PublishingStoppedError):
                self.world.wait(lambda: not self.is_stopped)
            elif isinstance(error, LogDamagedError):
                self.mend_logs()
            elif isinstance(error, (GateFailedError, *NEVER_RIGHT)):
                raise error
        raise GaveUpError(name) from error

    def mend_logs(self) -> None:
        """Do what the runbook says of a power cut: move hollow entries, or the table, away."""
        for log in self.world.lake.glob("*/*/_delta_log"):
            hollow = [entry for entry in log.iterdir() if not entry.stat().st_size]
            for entry in hollow:
                entry.unlink()
                if entry.stem.isdigit():
                    self.world.versions.get(str(log.parent), {}).pop(int(entry.stem), None)
                if entry.suffix == ".parquet":
                    (log / "_last_checkpoint").unlink(missing_ok=True)
            if hollow and not list(log.glob("*.json")):
                shutil.rmtree(log.parent)
                self.world.versions.pop(str(log.parent), None)

    def _hour(self, number: int) -> None:
        """Run the schedule's next hour, after those before it."""
        self._in_turn(number, self._run)

    def _watermark(self, number: int) -> None:
        """The same, of the rows alone."""
        self._in_turn(
            number,
            lambda run: self._read_and_judge(run, GENERATIONS, lambda: self._extract_rows(run)),
        )

    def _in_turn(self, number: int, work: Callable[[Run], Any]) -> None:
        before = list(self._ends)
        done: list[bool] = []
        self._ends.append(lambda: bool(done))
        try:
            self.world.wait(lambda: all(end() for end in before))
            end = START + (number + 1) * HOUR
            self.world.now = max(self.world.now, end + timedelta(minutes=1))  # the next hour comes
            work(Run(f"scheduled__{number}", _window(number)))
        finally:
            done.append(True)

    def _again(self, number: int) -> None:
        """Run an hour of the schedule a second time, as when it is cleared."""
        del number
        self._run(Run("scheduled__0", _window(0)))

    def _backfill(self, number: int) -> None:
        hour = (1, 0, 2)[number % 3]
        self._run(Run(f"backfill__{number}", _window(hour), moves_watermark=False))

    def _rows(self, number: int) -> None:
        """Read and judge all rows so far; two actors work on one run."""
        run = Run(f"rows__{number // 2}", Window(START, START + 4 * HOUR), moves_watermark=False)
        self._read_and_judge(run, GENERATIONS, lambda: self._extract_rows(run))

    def _trickle(self, number: int) -> None:
        """Read and judge all rows, then again each time one has changed: many small files."""
        for part in range(4):
            self.world.application.change()
            run = Run(
                f"trickle__{number}_{part}", Window(START, START + 4 * HOUR), moves_watermark=False
            )
            self._read_and_judge(run, GENERATIONS, lambda run=run: self._extract_rows(run))

    def _lines(self, number: int) -> None:
        """Read and judge the last whole hour's lines, and those of the hour before."""
        run = Run(f"lines__{number // 2}", _window(2), moves_watermark=False)
        self._read_and_judge(run, LOGS, lambda: self._extract_logs(run))
        if number < 2:
            self._task(f"{run.run_id}/close", lambda: self._close(run))

    def _models(self, number: int) -> None:
        """Build the models three times; from the second on side by side, of tables that exist."""
        for part in range(3):
            run = Run(
                f"models__{number}_{part}", _window((number + part) % 3), moves_watermark=False
            )
            try:
                self._build(run)
            finally:
                self._begun.add(number)
            self.world.wait(self._are_built)

    def _are_built(self) -> bool:
        """Has each of those who build models done so once?"""
        return len(self._begun) > self._numbers.get("models", -1)

    def _run(self, run: Run) -> None:
        has_rows = self._read_and_judge(run, GENERATIONS, lambda: self._extract_rows(run))
        self._read_and_judge(run, LOGS, lambda: self._extract_logs(run))
        if has_rows:
            self._build(run)
        self._task(f"{run.run_id}/close", lambda: self._close(run))

    def _build(self, run: Run) -> None:
        for model, build in ((LATEST, build_latest), (HOURLY, build_hourly)):
            self._task(f"{run.run_id}/build {model}", lambda build=build: build(run))
            if not self._judge(run, model):
                break

    def _extract_rows(self, run: Run) -> int:
        batch = extract_table(intake_of(GENERATIONS), "simulated", run)
        self.world.note("staged", run=run, token=batch.token, table=GENERATIONS)
        return batch.token

    def _extract_logs(self, run: Run) -> int:
        step = self.world.count
        batch = extract_api_logs(log_root(get_settings().api_logs), run)
        self.world.note("staged", run=run, token=batch.token, table=LOGS, step=step)
        return batch.token

    def _read_and_judge(self, run: Run, table: str, extract: Callable[[], int]) -> bool:
        token = self._task(f"{run.run_id}/extract {table}", extract)
        return self._judge(run, table, token)

    def _judge(self, run: Run, table: str, token: int = 0) -> bool:
        """Let the gate judge and publish, after a person's acceptance if it refuses.

        Args:
            run: The run.
            table: Its table.
            token: The attempt whose files, or a newer one's, it is to publish.
        """
        name = f"{run.run_id}/gate {table}"
        for _ in range(3):
            try:
                publication = self._task(name, lambda: judge(run, table))
            except GateFailedError:
                if not self.accepts:
                    return False
                try:
                    self._task(f"{name} accept", lambda: self._accepted(run, table))
                except NothingToAcceptError:
                    return False
            else:
                told = {"publication": publication, "wanted": token}
                self.world.note("published", run=run, table=table, **told)
                return True
        return False

    def _accepted(self, run: Run, table: str) -> None:
        before = self._staged_token(run, table)
        try:
            accept(table, run.run_id, "seen and found right", "somebody")
        except NothingToAcceptError:  # a newer attempt has staged other rows
            return
        except Killed:  # what is written is said, whoever died of it
            with seam.world_asleep():
                if read_record(run, table, Acceptance) is None:
                    raise
            self._note_accepted(run, table, before)
            raise
        self._note_accepted(run, table, before)

    def _note_accepted(self, run: Run, table: str, before: int) -> None:
        tokens = {before, self._staged_token(run, table)}
        self.world.note("accepted", run=run.run_id, table=table, tokens=tokens)

    def _staged_token(self, run: Run, table: str) -> int:
        with seam.world_asleep():
            return getattr(load_manifest(run, table), "token", 0)

    def _close(self, run: Run) -> None:
        close_run(run, (GENERATIONS, LOGS, LATEST, HOURLY))
        self.world.note("closed", run=run)

    # -- beside the hours -----------------------------------------------------------------------

    def _application(self, number: int) -> None:
        del number
        self.world.application.act()

    def _accept(self, number: int) -> None:
        del number
        self.accepts = True

    def _compact(self, number: int) -> None:
        for layer in ("bronze", "silver", "gold", "ops", "dev", "bronze", "bronze"):
            self._task(f"compact{number} {layer}", lambda layer=layer: optimize_layer(layer))
            self.world.pause()

    def _maintain(self, number: int) -> None:
        self._task(f"maintain{number}", lambda: maintain(dry_run=False))

    def _reconcile(self, number: int) -> None:
        run = Run(f"reconcile__{number}", Window(START, START + 24 * HOUR), moves_watermark=False)
        is_late = bool((number + self.world.schedule.seed) % 2)
        extract = extract_late_rows if is_late else extract_deletions
        intake = intake_of(GENERATIONS)

        def staged() -> int:
            told = {"is_late": is_late, "began": self.world.count}
            batch = extract(intake, "simulated", run)
            self.world.note("staged", run=run, token=batch.token, table=GENERATIONS, **told)
            return batch.token

        self._read_and_judge(run, GENERATIONS, staged)

    def _replay(self, number: int) -> None:
        for _ in range(2):
            self._task(f"replay{number}", lambda: replay(LOGS))

    def _stop(self, number: int) -> None:
        """Stop publishing, and go on later."""
        self._task(f"stop{number}", lambda: self._switch(is_stopped=True))
        for _ in range(10):
            self.world.step("a person waits")
        self._task(f"resume{number}", lambda: self._switch(is_stopped=False))
        self.world.wait(lambda: self._are_over(f"stop{number}#"))
        self._task(f"resume{number} what stopped late", lambda: self._switch(is_stopped=False))

    def _are_over(self, beginning: str) -> bool:
        return all(a.is_over for a in self.world.actors if a.name.startswith(beginning))

    def _switch(self, *, is_stopped: bool) -> None:
        if is_stopped == self.is_stopped:
            return
        try:
            (stop_publishing if is_stopped else resume_publishing)("to look", "somebody")
        except ControlRefusedError:
            pass  # it is so already: by another person, or by an attempt that nobody heard of
        finally:
            with seam.world_asleep():
                newest = newest_decision()
            if newest is not None and newest.is_stopped != self.is_stopped:
                self.is_stopped = newest.is_stopped
                self.world.note("switch", is_stopped=self.is_stopped)

    def _restore(self, number: int) -> None:
        """Put a table back by one version while publishing is stopped, once models are there."""
        self.world.wait(self._are_built)
        has_mark = "watermark" in self.world.schedule.actors
        table = GENERATIONS if has_mark else (LATEST, GENERATIONS, LOGS)[number % 3]
        self._task(f"stop-restore{number}", lambda: self._switch(is_stopped=True))
        self._task(f"restore{number}", lambda: self._put_back(table))
        self._task(f"resume-restore{number}", lambda: self._switch(is_stopped=False))
        self.world.wait(lambda: self._are_over(f"stop-restore{number}#"))
        self._task(f"resume-late{number}", lambda: self._switch(is_stopped=False))

    def _put_back(self, table: str) -> None:
        self._switch(is_stopped=True)  # somebody else may have resumed meanwhile
        found = open_table(table)
        if found is not None and found.version() > 1:
            made = restore(table, found.version() - 1, "wrong rows", "somebody")
            self.world.note("restored", table=table, version=made)

    def _developer(self, number: int) -> None:
        """Build a table by hand, merge into it, and build it anew with other partitions."""
        base = ", ".join(f"({key}, 'base', 'p{key % 2}', 'q{key % 3}')" for key in range(1, 7))
        rows = f"from (values {base}) as rows (id, value, p, q)"
        new = f"select {100 + number} as id, 'merged' as Value, 'p0' as p, 'q0' as q"
        merge = Rewrite("merge", keys=("id",))
        name = DEV if number % 2 == 0 else "Dev.Orders"
        for table, query, strategy, options in (
            (name, rows, "all", {"partition_by": ("p",)}),
            (name, new, merge, {}),
            (name, rows, "all", {"partition_by": ("q",), "is_full_refresh": True}),
            (name, new, merge, {}),
        ):
            order = {"table": Relation.parse(table), "strategy": strategy, **options}
            self._task(f"developer{number}", lambda q=query, o=order: build_by_hand(q, o))
        self.world.note("merged", key=100 + number)


def _window(number: int) -> Window:
    return Window(START + number * HOUR, START + (number + 1) * HOUR)


def judge(run: Run, table: str) -> Any:
    """Let a gate judge what is staged, and publish."""
    with open_gate(table, run) as gate:
        gate.checkpoint(gate.context()).run()
        return gate.publish()


# -- models, as dbt builds them ------------------------------------------------------------


def _predicate(column: str, values: frozenset[str] | None) -> str:
    return "true" if values is None else duckdb_sessions.among(column, sorted(values))


def _built(run: Run | None, order: dict[str, Any], query: Callable[[Session], str]) -> None:
    with duckdb_sessions.connect() as connection:
        session = Session(run)
        session.attach(connection)
        text = query(session)
        session.catalog.show_named(text)
        connection.execute(f"create or replace temp view incoming as {text}")
        invocation = str(seam.world.count)
        session.write(connection, Order(source="incoming", invocation_id=invocation, **order))


def build_by_hand(query: str, order: dict[str, Any]) -> None:
    _built(None, order, lambda _: query)


def build_latest(run: Run) -> None:
    """The newest version of each row, by the hour of its event, as `stg_app__generations`."""
    own, parent = Relation.parse(LATEST), Relation.parse(GENERATIONS)

    def query(session: Session) -> str:
        planned = session.plan(own, (parent,))
        is_there = session.is_table(own)
        touched = _predicate("_window_hour", planned.touched if is_there else None)
        arrived = _predicate("_window_hour", planned.arrived.get(parent) if is_there else None)
        held = f"union all by name select * from {LATEST} where {touched}" if is_there else ""
        return f"""
            with renamed as (
                select generation_id, user_id, status, prompt_tokens, cost_usd, created_at,
                    updated_at, _row_hash, _is_deleted,
                    strftime(created_at at time zone 'UTC', '%Y%m%dT%H') as _window_hour
                from (select * from {GENERATIONS} where {arrived})
            )
            select * from (select * from renamed where {touched} {held})
            qualify row_number() over (
                partition by generation_id order by updated_at desc, _row_hash desc
            ) = 1
        """

    order = {"strategy": "window", "parents": (parent,), "partition_by": ("_window_hour",)}
    _built(run, {"table": own, **order}, query)


def build_hourly(run: Run) -> None:
    """Count and cost by hour, of the rows that are not deleted."""
    own, parent = Relation.parse(HOURLY), Relation.parse(LATEST)

    def query(session: Session) -> str:
        planned = session.plan(own, (parent,))
        touched = _predicate("_window_hour", planned.touched if session.is_table(own) else None)
        return f"""
            select _window_hour, count(*) as generations, sum(cost_usd) as cost_usd,
                count_if(user_id = '{POISON}') as poisoned
            from {LATEST} where _is_deleted is not true and {touched} group by all
        """

    order = {"strategy": "window", "parents": (parent,), "partition_by": ("_window_hour",)}
    _built(run, {"table": own, **order}, query)
