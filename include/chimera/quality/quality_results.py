"""Quality history: append each gate's results to `ops.quality_results`, once per verdict."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from include.chimera.contracts import PARTITION, QUALITY_RESULTS
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.staged.manifests import Batch, find_manifests
from include.chimera.lake.staged.records import read_records
from include.chimera.lake.staged.verdicts import RATIO_RULE, RuleResult, Verdict
from include.chimera.lake.store.duckdb_sessions import among, connect, quote
from include.chimera.quality.batches import staged_rows
from include.chimera.quality.outliers import USUAL
from include.chimera.quality.unusual_hours import MAX_DAYS, PREFIX, is_unusual, measures
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.staged.manifests import Build
    from include.chimera.window import Run

logger = logging.getLogger(__name__)

Former = dict[tuple[str, str], list[float]]


def record_quality(run: Run) -> int:
    """Append the results of the run's gates and its anomaly checks; return the number of rows.

    Idempotent per verdict: a second call appends only verdicts given since the first.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
    """
    verdicts, manifests = read_records(run, Verdict), find_manifests(run)
    with connect() as connection:
        former = former_days(run, connection)
        found = [
            (verdict, result)
            for table, verdict in verdicts.items()
            for result in (
                *_judged(verdict),
                *_compared(run, verdict, manifests.get(table), former, connection),
            )
        ]
    unusual = sorted(
        f"{verdict.table} {result.rule_id}"
        for verdict, result in found
        if result.rule_id.startswith((PREFIX, USUAL)) and not result.is_passed
    )
    if unusual:
        logger.warning("unusual against former hours or days: %s", ", ".join(unusual))
    rows = [_row(run, verdict, result) for verdict, result in found]
    return append_rows(QUALITY_RESULTS, rows, run)


def former_days(run: Run, connection: DuckDBPyConnection) -> Former:
    """Return the anomaly rules' values at the same hour of up to 14 past days.

    Keyed by table and rule id; one value a day, the last recorded.
    """
    table = open_table(QUALITY_RESULTS.name)
    if table is None:
        return {}
    hours = [hour_label(run.window.start - timedelta(days=day)) for day in range(1, MAX_DAYS + 1)]
    rows = connection.execute(
        "select table_name, rule_id, arg_max(observed_value, recorded_at) "
        f"from ({scan(table, QUALITY_RESULTS.name)}) where {among(PARTITION, hours)} "
        f"and starts_with(rule_id, {quote(PREFIX)}) and observed_value is not null "
        f"group by table_name, rule_id, {PARTITION}"
    ).fetchall()
    found: Former = {}
    for name, rule_id, value in rows:
        found.setdefault((name, rule_id), []).append(value)
    return found


def _row(run: Run, verdict: Verdict, result: RuleResult) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "table_name": verdict.table,
        "rule_id": result.rule_id,
        "severity": result.severity,
        "is_passed": result.is_passed,
        "verdict": verdict.outcome,
        "checked_count": result.checked_count,
        "unexpected_count": result.unexpected_count,
        "pass_ratio": result.pass_ratio,
        "observed_value": result.observed_value,
        "error": result.error,
        "gate_seconds": verdict.seconds,
        "accepted_by": verdict.accepted_by,
        "accepted_reason": verdict.accepted_reason,
        "window_start": run.window.start,
        "window_end": run.window.end,
        "recorded_at": verdict.validated_at,
        PARTITION: hour_label(run.window.start),
    }


def _judged(verdict: Verdict) -> Iterator[RuleResult]:
    """Yield the result of the gate as a whole, then of each of its rules."""
    is_passed = RATIO_RULE not in verdict.failed_rules
    yield RuleResult(RATIO_RULE, "critical", is_passed, verdict.rows, verdict.rows_refused)
    yield from (result for result in verdict.results if result.rule_id != RATIO_RULE)


def _compared(
    run: Run,
    verdict: Verdict,
    staged: Batch | Build | None,
    former: Former,
    connection: DuckDBPyConnection,
) -> Iterator[RuleResult]:
    """Yield each measure of the staged files, compared with the same hour of past days."""
    if staged is None:
        return
    table = verdict.table
    rows = staged_rows(run, staged) if isinstance(staged, Batch) else ""
    for measure in measures(run, table, staged.files, verdict.seconds, connection, rows):
        days = former.get((table, measure.rule_id), [])
        yield RuleResult(
            measure.rule_id,
            "warning",
            not is_unusual(measure.value, days, measure.kind),
            checked_count=len(days),
            observed_value=measure.value,
        )
