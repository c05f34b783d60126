"""What a gate decided: counts, never values of rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any, Literal

Outcome = Literal["passed", "warned", "accepted", "failed"]
RATIO_RULE = "min_pass_ratio"


def tolerated(rows: int, min_share: float) -> int:
    """Return how many of the rows may be bad: rounded up, so that one never stops the others."""
    return ceil(round(rows * (1 - min_share), 6))


@dataclass(frozen=True)
class RuleResult:
    """What one rule found: counts, never values.

    Args:
        rule_id: The rule's id within its table.
        severity: `critical`, `warning` or `info`.
        is_passed: GX's verdict; False for a rule that raised.
        checked_count: Rows looked at, None for rules about the whole table.
        unexpected_count: Rows that broke it, None for rules about the whole table.
        observed_value: The statistic that was judged (a mean, a count), None where there is none.
        error: Class of what the rule raised, None normally.
        examples: Commonest values that broke it with their counts, of public columns only.
        tolerated_count: How many rows may break it and stop nothing, though GX counts against it.
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
        """Whether it stops the gate: of its severity, and by more than some rows."""
        broken = 0 if self.error else self.unexpected_count or 0
        is_tolerated = 0 < broken <= self.tolerated_count
        return self.severity == "critical" and not (self.is_passed or is_tolerated)

    @property
    def pass_ratio(self) -> float | None:
        """Share of the rows that kept the rule; None for rules about the whole table."""
        if self.checked_count is None or self.unexpected_count is None:
            return None
        return 1.0 - self.unexpected_count / self.checked_count if self.checked_count else 1.0

    @property
    def is_alarm(self) -> bool:
        """Whether somebody should look: the rule failed, or single rows broke it."""
        return not self.is_passed or bool(self.unexpected_count)


@dataclass(frozen=True)
class Verdict:
    """What a gate decided, in the shape that the GX provider's operator expects of a result.

    Args:
        table: `<layer>.<table>`.
        results: One per rule.
        rows: Rows staged, those that could not be parsed included.
        rows_refused: Rows that break a critical row rule or could not be parsed.
        min_pass_ratio: Share of the rows that has to be good.
        accepted_by: Who let a failed gate through; None: nobody had to, or did.
        seconds: How long the gate took up to the verdict.
        validated_at: When, ISO 8601 in UTC.
    """

    table: str
    results: tuple[RuleResult, ...]
    rows: int
    rows_refused: int = 0
    min_pass_ratio: float = 1.0
    accepted_by: str | None = None
    seconds: float = 0.0
    validated_at: str = ""
    failed_rules: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Work out which critical rules failed; one that raised could not be kept."""
        failed = [result.rule_id for result in self.results if result.is_failure]
        is_beyond = self.rows_refused > tolerated(self.rows, self.min_pass_ratio)
        if is_beyond and RATIO_RULE not in failed:
            failed.append(RATIO_RULE)
        failed.sort(key=lambda rule_id: rule_id == RATIO_RULE)
        object.__setattr__(self, "failed_rules", tuple(failed))

    @property
    def pass_ratio(self) -> float:
        """Share of the rows that break no critical row rule; 1 where there are none."""
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

    def describe_dict(self) -> dict[str, Any]:
        """Return counts only: this goes to XCom."""
        passed = sum(result.is_passed for result in self.results)
        return {
            "table": self.table,
            "outcome": self.outcome,
            "rows": self.rows,
            "rows_refused": self.rows_refused,
            "rules": len(self.results),
            "rules_passed": passed,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict with each rule's counts, for the run's records."""
        rules = [{**asdict(result), "pass_ratio": result.pass_ratio} for result in self.results]
        return {
            **self.describe_dict(),
            "results": rules,
            "failed_rules": list(self.failed_rules),
            "pass_ratio": self.pass_ratio,
            "accepted_by": self.accepted_by,
            "seconds": round(self.seconds, 3),
            "validated_at": self.validated_at,
        }
