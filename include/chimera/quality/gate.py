"""A gate: run a table's checkpoint over staged rows and say what it means."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote_plus, urlencode

import duckdb
import great_expectations as gx

from include.chimera.paths import INCLUDE
from include.chimera.quality import duckdb_source  # noqa: F401 - registers the datasource type
from include.chimera.quality.suites import ASSET
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from great_expectations.checkpoint import Checkpoint
    from great_expectations.checkpoint.checkpoint import CheckpointResult
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context import FileDataContext

Outcome = Literal["passed", "warned", "failed"]


@dataclass(frozen=True)
class RuleResult:
    """What one rule found: counts, never values.

    Args:
        rule_id: The rule's id within its table.
        severity: `critical`, `warning` or `info`.
        is_passed: GX's verdict; False for a rule that raised.
        checked_count: Rows looked at, None for rules about the whole table.
        unexpected_count: Rows that broke it, None for rules about the whole table.
        error: Class of what the rule raised, None normally.
    """

    rule_id: str
    severity: str
    is_passed: bool
    checked_count: int | None = None
    unexpected_count: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a gate decided, in the shape that the GX provider's operator expects of a result."""

    table: str
    results: tuple[RuleResult, ...]
    rows: int
    rows_refused: int = 0
    min_pass_ratio: float = 1.0
    failed_rules: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Work out which critical rules failed; one that raised counts as critical."""
        failed = (
            result.rule_id
            for result in self.results
            if not result.is_passed and (result.severity == "critical" or result.error)
        )
        object.__setattr__(self, "failed_rules", tuple(failed))

    @property
    def pass_ratio(self) -> float:
        """Share of the rows that break no critical row rule; 1 where there are none."""
        return 1.0 - self.rows_refused / self.rows if self.rows else 1.0

    @property
    def success(self) -> bool:
        """Whether the rows may be committed."""
        return not self.failed_rules and self.pass_ratio >= self.min_pass_ratio

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word."""
        if not self.success:
            return "failed"
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
        rules = [asdict(result) for result in self.results]
        return {**self.describe_dict(), "results": rules, "failed_rules": list(self.failed_rules)}


@contextmanager
def gate_database(rows: str) -> Iterator[Path]:
    """Give a read-only DuckDB file whose view `batch` shows the staged rows."""
    with TemporaryDirectory(prefix="chimera-gate-") as folder:
        path = Path(folder) / "gate.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"create view {ASSET} as {rows}")
        yield path


def gx_context(database: Path) -> FileDataContext:
    """Open the GX project over a gate's database."""
    settings = get_settings()
    options = urlencode(
        {
            "access_mode": "read_only",
            "memory_limit": settings.duckdb_memory_limit,
            "threads": settings.duckdb_threads,
        }
    )
    return gx.get_context(
        mode="file",
        project_root_dir=INCLUDE,
        runtime_environment={
            "CHIMERA_GATE": f"duckdb+gx:///{quote_plus(str(database), safe='/')}?{options}",
            "CHIMERA_GX_RESULTS": str(settings.state_dir / "gx" / "validations"),
            "CHIMERA_GX_DOCS": str(settings.state_dir / "gx" / "data_docs"),
        },
    )


@dataclass
class GatedCheckpoint:
    """A checkpoint whose result is a verdict that knows severity and pass ratio.

    The provider's operator calls `run` and reads `success` and `describe_dict()` of what it
    returns: nothing else of GX' result, with its values, leaves this object.
    """

    checkpoint: Checkpoint
    table: str
    rows: int
    rows_refused: int
    min_pass_ratio: float
    verdict: Verdict | None = None

    def run(self, batch_parameters: dict[str, Any] | None = None) -> Verdict:
        """Apply the rules and remember the verdict."""
        result = self.checkpoint.run(batch_parameters=batch_parameters or None)
        self.verdict = Verdict(
            self.table, _results(result), self.rows, self.rows_refused, self.min_pass_ratio
        )
        return self.verdict


def _results(result: CheckpointResult) -> tuple[RuleResult, ...]:
    return tuple(_result(item) for suite in result.run_results.values() for item in suite.results)


def _result(item: ExpectationValidationResult) -> RuleResult:
    rule: Any = item.expectation_config
    return RuleResult(
        rule_id=rule.meta["rule_id"],
        severity=str(getattr(rule.severity, "value", "critical")),
        is_passed=bool(item.success),
        checked_count=item.result.get("element_count"),
        unexpected_count=item.result.get("unexpected_count"),
        error=_error(item.exception_info),
    )


def _error(information: dict[str, Any] | None) -> str | None:
    """Return the class name of what a rule raised; its message could hold values."""
    if not information:
        return None
    nested = [value for value in information.values() if isinstance(value, dict)]
    for entry in nested or [information]:
        if entry.get("raised_exception"):
            trace = str(entry.get("exception_traceback") or "").strip().splitlines()
            return trace[-1].split(":")[0] if trace else "unknown"
    return None
