"""Run a table's checkpoint over staged rows, and turn its result into a verdict."""

from __future__ import annotations

import logging
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import duckdb
import great_expectations as gx
from great_expectations.validator.v1_validator import Validator

from include.chimera.errors import ChimeraError, GateOutageError
from include.chimera.lake.staged.verdicts import (
    RATIO_RULE,
    RuleResult,
    Verdict,
    find_failed_rules,
    tolerated,
)
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.scratch import scratch
from include.chimera.lake.store.storage_errors import translate
from include.chimera.paths import INCLUDE
from include.chimera.quality.gx import duckdb_source  # noqa: F401 - registers the datasource type
from include.chimera.quality.gx.configurations import configurations_kept
from include.chimera.quality.rules.suites import ASSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from great_expectations.checkpoint import Checkpoint
    from great_expectations.core import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.core.batch_definition import BatchParameters
    from great_expectations.data_context import FileDataContext

    from include.chimera.quality.acceptance import Acceptance
    from include.chimera.window import Run

# DuckDB errors that are not about the rows: the machine or the storage failed.
OUTAGES = (
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.ConnectionException,
    duckdb.InternalException,
    duckdb.FatalException,
    duckdb.InterruptException,
    duckdb.HTTPException,
)
_OUTAGE = re.compile(
    rf"^\(?_?duckdb\.({'|'.join(error.__name__ for error in OUTAGES)})\)?:? (.*)", re.MULTILINE
)
logger = logging.getLogger(__name__)
# It tells, in each gate's log, how it read its own configuration.
logging.getLogger("great_expectations").setLevel(logging.WARNING)

# GX logs two lines about a default value per expectation: a third of a run's log lines.
logging.getLogger("great_expectations.expectations.expectation").setLevel(logging.WARNING)


@contextmanager
def gate_database(
    rows: str, prepare: Callable[[duckdb.DuckDBPyConnection], None]
) -> Iterator[Path]:
    """Yield a DuckDB file whose view `batch` selects the staged rows.

    Args:
        rows: Query of the rows; it may read files, but no other relation.
        prepare: Creates the relations that rules refer to: `run`, `usual` and `keys_…`.
    """
    with scratch("gate") as folder:
        path = Path(folder) / "gate.duckdb"
        with connect(str(path), has_delta=False) as connection:
            prepare(connection)
            connection.execute(f"create view {ASSET} as {rows}")
        yield path


def connection_string(database: Path) -> str:
    """Return the URL with which GX opens a gate's database (`duckdb_source`)."""
    return f"duckdb+gx:///{quote_plus(str(database), safe='/')}"


def gx_context(database: Path) -> FileDataContext:
    """Open the GX project over a gate's database; results and Data Docs stand beside it.

    Args:
        database: The file from `gate_database`.
    """
    return gx.get_context(
        mode="file",
        project_root_dir=INCLUDE,
        runtime_environment={
            "CHIMERA_GATE": connection_string(database),
            "CHIMERA_GX_RESULTS": str(database.parent / "results"),
            "CHIMERA_GX_DOCS": str(database.parent / "docs"),
        },
    )


@dataclass
class GatedCheckpoint:
    """A checkpoint whose result is a `Verdict`, with severities and the pass ratio.

    The provider's operator calls `run`, and reads `success` and `describe_dict()` of the verdict.
    GX's own result, which holds values of rows, is not passed on.

    Args:
        checkpoint: GX's own checkpoint.
        table: `<layer>.<table>`.
        dag_run: The run that staged the rows.
        rows: Rows staged, including unparsed ones.
        rows_unparsed: How many of them could not be parsed.
        min_pass_ratio: Share of the rows that must be good.
        find_acceptance: Returns a person's acceptance of these failed rules, or None.
        examples: Returns the commonest values that break a public rule.
    """

    checkpoint: Checkpoint
    table: str
    dag_run: Run
    rows: int
    rows_unparsed: int
    min_pass_ratio: float
    find_acceptance: Callable[[tuple[str, ...]], Acceptance | None] = lambda _: None
    examples: Callable[[str], tuple[tuple[str, int], ...]] = lambda _: ()
    started: float = field(default_factory=time.monotonic)
    acceptance: Acceptance | None = None
    verdict: Verdict | None = None
    result: ExpectationSuiteValidationResult | None = None

    def run(self, batch_parameters: BatchParameters | None = None) -> Verdict:
        """Evaluate the rules and keep the verdict.

        Raises:
            LakeError: A rule could not be evaluated because storage failed.
            MemoryExhaustedError: DuckDB reached its memory limit.
            GateOutageError: DuckDB failed otherwise.
        """
        self.result = self._validate(batch_parameters)
        self.verdict = self._verdict(self._results(self.result))
        return self.verdict

    def _validate(
        self, batch_parameters: BatchParameters | None
    ) -> ExpectationSuiteValidationResult:
        """Validate the suite, without `Checkpoint.run`.

        That would also compare the suite with its file four times and store the result (0.06 s of
        0.6, 2026-11-24). Neither is needed here: suite and results are read-only.
        """
        (definition,) = self.checkpoint.validation_definitions
        validator = Validator(
            definition.batch_definition, self.checkpoint.result_format, batch_parameters or None
        )
        with configurations_kept():
            return validator.validate_expectation_suite(definition.suite)

    def _verdict(self, results: tuple[RuleResult, ...]) -> Verdict:
        refused = self._rows_refused(results)
        failed = find_failed_rules(results, self.rows, refused, self.min_pass_ratio)
        self.acceptance = self.find_acceptance(failed) if failed else None
        return Verdict(
            table=self.table,
            run_id=self.dag_run.run_id,
            window=self.dag_run.window,
            moves_watermark=self.dag_run.moves_watermark,
            results=results,
            rows=self.rows,
            rows_refused=refused,
            failed_rules=failed,
            seconds=round(time.monotonic() - self.started, 3),
            validated_at=datetime.now(UTC),
            min_pass_ratio=self.min_pass_ratio,
            accepted_by=self.acceptance.accepted_by if self.acceptance else None,
            accepted_reason=self.acceptance.reason if self.acceptance else None,
        )

    def _rows_refused(self, results: tuple[RuleResult, ...]) -> int:
        """Return how many rows are bad; all of them if the pass ratio could not be evaluated."""
        for rule in results:
            if rule.rule_id == RATIO_RULE:
                return self.rows if rule.unexpected_count is None else rule.unexpected_count
        return self.rows_unparsed

    def _results(self, result: ExpectationSuiteValidationResult) -> tuple[RuleResult, ...]:
        for item in result.results:
            if (fault := _outage_in(_raised(item.exception_info))) is not None:
                raise outage(self.table, fault)
        found = [_result(item, self.examples) for item in result.results]
        for rule in found:
            if rule.error:
                logger.warning(
                    "%s: rule %s (%s) can't be judged: %s",
                    *(self.table, rule.rule_id, rule.severity, rule.error),
                )
        return tuple(found)


def outage(table: str, error: BaseException) -> ChimeraError:
    """Return the error of a gate that could not judge; its class decides about retries."""
    where = f"gate of {table}; nothing is committed"
    return translate(error, where) or GateOutageError(
        expected="rules that can be judged",
        came=type(error).__name__,
        where=where,
        remedy="the task retries by itself; if it persists, look at memory and at what interrupts "
        "the worker",
    )


def _result(
    item: ExpectationValidationResult, examples: Callable[[str], tuple[tuple[str, int], ...]]
) -> RuleResult:
    rule: Any = item.expectation_config
    rule_id, broken = rule.meta["rule_id"], item.result.get("unexpected_count")
    observed = item.result.get("observed_value")
    checked = item.result.get("element_count")
    return RuleResult(
        rule_id=rule_id,
        severity=str(getattr(rule.severity, "value", "critical")),
        is_passed=bool(item.success),
        checked_count=checked,
        unexpected_count=broken,
        observed_value=float(observed) if isinstance(observed, (int, float)) else None,
        error=_error(item.exception_info),
        examples=examples(rule_id) if broken else (),
        tolerated_count=tolerated(checked or 0, rule.kwargs.get("mostly", 1)),
    )


def _error(information: Mapping[str, Any] | None) -> str | None:
    """Return only the class of a rule's exception, because its message may hold values."""
    raised = _raised(information)
    return _class_name(raised["exception_traceback"]) if raised else None


def _raised(information: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return message and traceback of a rule's exception, None if there is none."""
    told: Mapping[str, Any] = information or {}
    nested: list[Mapping[str, Any]] = [item for item in told.values() if isinstance(item, dict)]
    for entry in nested or [told]:
        if entry.get("raised_exception"):
            return {
                name: str(entry.get(name) or "").strip()
                for name in ("exception_message", "exception_traceback")
            }
    return None


def _outage_in(raised: dict[str, str] | None) -> duckdb.Error | None:
    """Rebuild DuckDB's outage error from the text, which is all that GX keeps, or return None."""
    for text in (raised or {}).values():
        if found := _OUTAGE.search(text):
            error: duckdb.Error = getattr(duckdb, found[1])(found[2])
            return error
    return None


def _class_name(traceback: str) -> str:
    """Return the class of a traceback's last exception, without its module."""
    lines = traceback.splitlines()
    raised = [line.split(":")[0] for line in lines if line[:1].isalpha() and "Error" in line[:80]]
    return raised[-1].rpartition(".")[2][:60] if raised else "unknown"
