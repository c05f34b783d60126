"""A gate's verdict: counts, and values of public columns only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Literal

from include.chimera.lake.staged.records import Bounds, Record
from include.chimera.window import Run

Outcome = Literal["passed", "warned", "accepted", "failed"]
RATIO_RULE = "min_pass_ratio"


def tolerated(rows: int, min_share: float) -> int:
    """Return how many rows may be bad: rounded up, so that one alone never stops the others."""
    return ceil(round(rows * (1 - min_share), 6))


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule.

    Args:
        rule_id: The rule's id within its table.
        severity: `critical`, `warning` or `info`.
        is_passed: GX's verdict; False for a rule that raised.
        checked_count: Rows checked; None for rules about the whole table.
        unexpected_count: Rows that broke it; None for rules about the whole table.
        observed_value: The statistic that was judged (a mean, a count); None: there is none.
        error: Class of the exception that the rule raised; None: it raised none.
        examples: Commonest values that broke it with their counts, of public columns only.
        tolerated_count: How many rows may break it without failing the gate, even if GX's verdict
            is negative.
    """

    rule_id: str
    severity: str
    is_passed: bool
    checked_count: int | None = None
    unexpected_count: int | None = None
    observed_value: float | None = None
    error: str | None = None
    examples: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    tolerated_count: int = 0

    @property
    def is_failure(self) -> bool:
        """Whether it fails the gate: it is critical, and more rows broke it than are tolerated."""
        broken = 0 if self.error else self.unexpected_count or 0
        is_tolerated = 0 < broken <= self.tolerated_count
        return self.severity == "critical" and not (self.is_passed or is_tolerated)

    @property
    def pass_ratio(self) -> float | None:
        """Share of the rows that passed the rule; None for rules about the whole table."""
        if self.checked_count is None or self.unexpected_count is None:
            return None
        return 1.0 - self.unexpected_count / self.checked_count if self.checked_count else 1.0

    @property
    def is_alarm(self) -> bool:
        """Whether a person should look: the rule failed, or at least one row broke it."""
        return not self.is_passed or bool(self.unexpected_count)


@dataclass(frozen=True)
class Verdict(Record):
    """A gate's decision, in the shape of a result that the GX provider's operator expects.

    Args:
        table: `<layer>.<table>`.
        run_id: Airflow's id of the run; commands rebuild the run from it, `window` and
            `moves_watermark`.
        window: The run's hours.
        moves_watermark: Whether the run moves watermarks.
        results: One per rule.
        rows: Rows staged, including those that could not be parsed.
        rows_refused: Rows that break a critical row rule or could not be parsed.
        failed_rules: Critical rules that failed, in their order, the pass ratio last.
        seconds: The gate's duration up to the verdict.
        validated_at: When, UTC.
        min_pass_ratio: Share of the rows that must be good; older records lack it.
        accepted_by: Who accepted the failed gate; None: nobody, or it did not fail.
        accepted_reason: Why, in that person's words.
        is_counted: Whether this verdict's counts were added to the counter metrics.
    """

    file_name = "verdict.json"

    table: str
    run_id: str
    window: Bounds
    moves_watermark: bool
    results: tuple[RuleResult, ...]
    rows: int
    rows_refused: int
    failed_rules: tuple[str, ...]
    seconds: float
    validated_at: datetime
    min_pass_ratio: float = 1.0
    accepted_by: str | None = None
    accepted_reason: str | None = None
    is_counted: bool = False

    @property
    def run(self) -> Run:
        """The run whose rows were judged."""
        return Run(self.run_id, self.window, self.moves_watermark)

    @property
    def pass_ratio(self) -> float:
        """Share of the rows that break no critical row rule; 1 if there are no rows."""
        return 1.0 - self.rows_refused / self.rows if self.rows else 1.0

    @property
    def success(self) -> bool:
        """Whether the rows may be committed."""
        return not self.failed_rules or self.accepted_by is not None

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word."""
        if self.failed_rules:
            return "accepted" if self.accepted_by else "failed"
        return "passed" if all(result.is_passed for result in self.results) else "warned"

    def describe_dict(self) -> dict[str, str | int]:
        """Return counts only, because this goes to XCom."""
        return {
            "table": self.table,
            "outcome": self.outcome,
            "rows": self.rows,
            "rows_refused": self.rows_refused,
            "rules": len(self.results),
            "rules_passed": sum(result.is_passed for result in self.results),
        }


def find_failed_rules(
    results: tuple[RuleResult, ...], rows: int, rows_refused: int, min_pass_ratio: float
) -> tuple[str, ...]:
    """Return the critical rules that failed or raised, the pass ratio last."""
    failed = [result.rule_id for result in results if result.is_failure]
    if rows_refused > tolerated(rows, min_pass_ratio) and RATIO_RULE not in failed:
        failed.append(RATIO_RULE)
    return tuple(sorted(failed, key=lambda rule_id: rule_id == RATIO_RULE))
