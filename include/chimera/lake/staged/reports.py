"""The report of a run: what its last task writes for people and messages."""

from __future__ import annotations

from dataclasses import dataclass

from include.chimera.lake.staged.records import Bounds, Record
from include.chimera.lake.staged.verdicts import Outcome  # noqa: TC001 - pydantic resolves it at run time


@dataclass(frozen=True)
class TableCounts:
    """A table's counts in the run, and its size; None: unknown."""

    table: str
    rows_read: int | None
    rows_published: int | None
    rows_refused: int | None
    rows_duplicate: int | None
    version: int
    rows_total: int | None = None


@dataclass(frozen=True)
class BrokenRule:
    """A rule that failed or that rows broke; None rows: it is about the whole table."""

    rule_id: str
    severity: str
    unexpected_count: int | None


@dataclass(frozen=True)
class GateLine:
    """How a table's gate ended."""

    table: str
    verdict: Outcome
    rule_count: int
    failed_rules: tuple[BrokenRule, ...]


@dataclass(frozen=True)
class Refusals:
    """The count of a source's dead letters with one reason."""

    source: str
    reason: str
    count: int


@dataclass(frozen=True)
class WaitingRows:
    """Rows of a table held back by open transactions (see `held_back`), also as a sentence."""

    table: str
    rows: int
    transactions: int
    since: str
    text: str


@dataclass(frozen=True)
class RunReport(Record):
    """What a run did, table by table."""

    file_name = "report.json"

    run_id: str
    correlation_id: str
    window: Bounds
    tables: tuple[TableCounts, ...]
    gates: tuple[GateLine, ...]
    refusals: tuple[Refusals, ...]
    held_back: tuple[WaitingRows, ...] = ()
