"""The platform that the product reads: rows that change, transactions that stay open, log files.

It keeps what it ever held, and at which step, for the auditor: the product sees the rows and files
alone.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from include.chimera.errors import SourceUnavailableError
from tests.simulation.world import HOUR, START, World

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

MARGIN = timedelta(seconds=5)  # of the database's safe bound
NEVER = 10**9
BAD, POISON = "unknown", "poison"  # a status that a rule refuses; a user whom the gate refuses
_REFUSED = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("coordinates", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field("_window_hour", pa.string()),
    ]
)
_COLUMNS = {
    **dict.fromkeys(("generation_id", "user_id", "session_id", "request_id"), "varchar"),
    **dict.fromkeys(("provider_id", "model_id", "status", "error_code"), "varchar"),
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), "bigint"),
    **dict.fromkeys(("latency_ms", "ttft_ms"), "double"),
    **dict.fromkeys(("created_at", "updated_at"), "timestamptz"),
    "techniques": "varchar[]",
    "cost_usd": "decimal(18, 9)",
}
# PostgreSQL's functions that the product's statements use, for the DuckDB that plays its part.
_NO_NUMBER = re.compile(r"\w+ = 'NaN' or ")  # DuckDB's decimals have none
_MACROS = """
    create macro pg_column_size(x) as 0;
    create macro array_send(x) as '';
    create macro array_ndims(x) as 1;
    create macro array_lower(x, n) as 1;
    create schema app;
"""


@dataclass
class Fact:
    """A version of a row, or a line of a log: what it says, and from when until when it stood."""

    key: str
    number: int
    created_at: datetime
    updated_at: datetime
    status: str = "succeeded"
    user: str = "somebody"
    cost: Decimal = Decimal("0.5")
    since: int = NEVER  # the step of its commit
    until: int = NEVER  # the step at which a newer version, or nothing, took its place


@dataclass
class LogLine:
    """A line of a log file; `is_near` where its time is near the hour of its file."""

    file: str
    offset: int
    timestamp: datetime
    written: int
    is_near: bool


@dataclass
class Application:
    """Writes rows and log lines, an action at a time."""

    world: World
    logs: Path
    draw: random.Random
    facts: list[Fact] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    current: dict[str, Fact] = field(default_factory=dict)
    open: list[tuple[datetime, list[Fact]]] = field(default_factory=list)
    _database: duckdb.DuckDBPyConnection | None = None
    _numbers: int = 0

    def begin(self) -> None:
        """Fill the first three hours, with what the actors of the schedule work on."""
        actors = self.world.schedule.actors
        for hour in range(3):
            for _ in range(self.draw.choice((1, 2, 3))):
                at = START + hour * HOUR + timedelta(seconds=self.draw.randrange(3599))
                self._commit([self._made(at)], 0)
            for hours_ahead in range(self.draw.choice((1, 2))):  # as is the second writer's clock
                self._log(hour, hour + hours_ahead, 0)
        if self.draw.random() < 0.3:
            self._commit([self._made(START + HOUR / 2, status=BAD)], 0)
        if self.draw.random() < (0.9 if "accept" in actors else 0.1):
            hour = self.draw.randrange(3)
            self._commit([self._made(START + (hour + 0.7) * HOUR, user=POISON)], 0)
        if "replay" in actors:
            self._log(2, 0, 0)
        if self.draw.random() < 0.4:
            at = START + self.draw.randrange(3) * HOUR + 0.9 * HOUR
            self.open.append((at, [self._made(at)]))

    def act(self) -> None:
        """Do a few things, others in between."""
        for _ in range(self.draw.choice((2, 4, 6))):
            self.world.step("application: goes on")
            self.world.pause()
            self.draw.choice(
                (self._insert, self._update, self._update, self._update, self._delete)
                + (self._commit_open, self._line, self._far_line)
                + (self._late_line,) * (12 if "lines" in self.world.schedule.actors else 1)
            )()
        self._commit_open()

    def change(self) -> None:
        """Change one row."""
        self._update()

    # -- rows -----------------------------------------------------------------------------------

    def _made(self, at: datetime, **values: str) -> Fact:
        self._numbers += 1
        cost = Decimal(self.draw.randrange(1, 100)) / 10
        return Fact(f"g{self._numbers}", self._numbers, at, at, cost=cost, **values)

    def _commit(self, facts: list[Fact], step: int) -> None:
        for fact in facts:
            before = self.current.get(fact.key)
            if before is not None:
                before.until = step
            fact.since = step
            self.current[fact.key] = fact
            self.facts.append(fact)

    def _insert(self) -> None:
        self._commit([self._made(self.world.now)], self.world.count)

    def _update(self) -> None:
        if not self.current:
            return
        rows = list(self.current.values())
        old = self.draw.choice((rows[0], *rows, rows[0]))  # one changes more often than the others
        self._numbers += 1
        new = Fact(old.key, self._numbers, old.created_at, self.world.now, old.status, old.user)
        self._commit([new], self.world.count)

    def _delete(self) -> None:
        if self.current and self.draw.random() < 0.5:
            key = self.draw.choice(list(self.current))
            self.current.pop(key).until = self.world.count

    def _commit_open(self) -> None:
        for _, facts in self.open:
            self._commit(facts, self.world.count)
        self.open = []

    @contextmanager
    def snapshot(self, uri: str) -> Iterator[Snapshot]:
        """Stand in for the product's snapshot of PostgreSQL: the same statements, on DuckDB."""
        del uri
        if self.world.step("source: snapshot", frozenset({"kill", "away", "stall"})) == "away":
            raise SourceUnavailableError(came="no answer", where="the simulated database")
        if self._database is None:
            self._database = duckdb.connect(config={"threads": "1"})
            self._database.execute(f"set TimeZone = 'UTC'; {_MACROS}")
        since = tuple(began for began, _ in self.open)
        bound = min(self.world.now - MARGIN, *since, self.world.now)
        actor = self.world.acting
        self.world.note("read", token=actor.token if actor else 0, safe=bound, source="generations")
        yield Snapshot(self._database.cursor(), list(self.current.values()), bound, since)

    # -- logs -----------------------------------------------------------------------------------

    def _log(self, written_hour: int, event_hour: int, step: int) -> None:
        self._numbers += 1
        folder = START + written_hour * HOUR
        at = START + event_hour * HOUR + timedelta(seconds=self.draw.randrange(3599))
        name = f"dt={folder:%Y-%m-%d}/hour={folder:%H}/api.jsonl"
        path = self.logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {"timestamp": at.isoformat(), "message": f"line {self._numbers}", "duration_ms": 1}
        offset = path.stat().st_size if path.exists() else 0
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        is_near = abs(event_hour - written_hour) <= 1
        self.lines.append(LogLine(name, offset, at, step, is_near))

    @property
    def _hour(self) -> int:
        return (self.world.now - START) // HOUR

    def _line(self) -> None:
        self._log(self._hour, self._hour, self.world.count)

    def _late_line(self) -> None:
        self._log(self._hour, self._hour - 1, self.world.count)

    def _far_line(self) -> None:
        if self.draw.random() < 0.3:
            self._log(self._hour, 0, self.world.count)


@dataclass
class Snapshot:
    """What the source's tables held at one moment."""

    cursor: duckdb.DuckDBPyConnection
    facts: list[Fact]
    safe_bound: datetime
    open_since: tuple[datetime, ...]
    is_blind: bool = False

    def stream(self, query: str) -> pa.RecordBatchReader:
        if " as reason, " in query:  # the application's own types forbid what is refused so early
            return pa.RecordBatchReader.from_batches(_REFUSED, [])
        self._fill()
        query = _NO_NUMBER.sub("", query).replace("octet_length(", "strlen(")
        return self.cursor.execute(query).to_arrow_table().to_reader()

    def count(self, table: str, where: str) -> int:
        self._fill()
        row = self.cursor.execute(f"select count(*) from {table} where {where}").fetchone()
        return row[0]

    def _fill(self) -> None:
        rows = {
            "generation_id": [fact.key for fact in self.facts],
            "created_at": [fact.created_at for fact in self.facts],
            "updated_at": [fact.updated_at for fact in self.facts],
            "user_id": [fact.user for fact in self.facts],
            "status": [fact.status for fact in self.facts],
            "prompt_tokens": [fact.number for fact in self.facts],
            "cost_usd": [fact.cost for fact in self.facts],
        }
        values = ", ".join(
            f"cast({name if name in rows else 'null'} as {kind}) as {name}"
            for name, kind in _COLUMNS.items()
        )
        self.cursor.register("held", pa.table(rows, schema=_SCHEMA))
        self.cursor.execute(f"create or replace table app.generations as select {values} from held")

    def columns(self, table: str) -> dict[str, str]:
        del table
        kinds = {"varchar": "text", "bigint": "int8", "double": "float8", "varchar[]": "_text"}
        kinds["decimal(18, 9)"] = "numeric"
        return {name: kinds.get(kind, kind) for name, kind in _COLUMNS.items()}

    def has_unique_key(self, table: str, key: tuple[str, ...]) -> bool:
        del table, key
        return True


_TIME = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    {
        "generation_id": pa.string(),
        "created_at": _TIME,
        "updated_at": _TIME,
        "user_id": pa.string(),
        "status": pa.string(),
        "prompt_tokens": pa.int64(),
        "cost_usd": pa.decimal128(18, 9),
    }
)
