"""Quality history: what each gate of a run found, appended to `ops.quality_results` once."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.chimera.contracts import CONTRACTS, PARTITION, QUALITY_RESULTS
from include.chimera.lake.delta.parquet_files import DataFile
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.staged.manifests import STAGE, VERDICT, read_records
from include.chimera.lake.store.duckdb_sessions import among, connect, quote
from include.chimera.quality.anomalies import MAX_DAYS, PREFIX, is_unusual, measures
from include.chimera.quality.batches import staged_batch
from include.chimera.quality.rules.book import rule_book
from include.chimera.quality.value_baselines import USUAL
from include.chimera.quality.verdict import RATIO_RULE
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

    from include.chimera.window import Run

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Former = dict[tuple[str, str], list[float]]


def record_quality(run: Run) -> int:
    """Append what the run's gates found, and what is unusual about it; return how many rows.

    Once per verdict: a second call adds only what was judged again since.

    Raises:
        CommitConflictError: Other writers won again and again.
    """
    verdicts, stages = read_records(run, VERDICT), read_records(run, STAGE)
    with connect() as connection:
        former = former_days(run, connection)
        rows = [
            {**_common(run, table, verdict), **row}
            for table, verdict in verdicts.items()
            for row in (
                *_rule_rows(verdict),
                *_anomaly_rows(run, table, verdict, stages.get(table), former, connection),
            )
        ]
    unusual = sorted(
        f"{row['table_name']} {row['rule_id']}"
        for row in rows
        if row["rule_id"].startswith((PREFIX, USUAL)) and not row["is_passed"]
    )
    if unusual:
        logger.warning("unusual against former hours or days: %s", ", ".join(unusual))
    return append_rows(QUALITY_RESULTS, rows, run)


def former_days(run: Run, connection: DuckDBPyConnection) -> Former:
    """Return the anomaly rules' values at the same hour of up to 14 former days.

    By table and rule id; of each day the value that was recorded last.
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


def _common(run: Run, table: str, verdict: Record) -> Record:
    return {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "table_name": table,
        "verdict": verdict["outcome"],
        "gate_seconds": verdict["seconds"],
        "accepted_by": verdict["accepted_by"],
        "accepted_reason": verdict["accepted_reason"],
        "window_start": run.window.start,
        "window_end": run.window.end,
        "recorded_at": datetime.fromisoformat(verdict["validated_at"]),
        PARTITION: hour_label(run.window.start),
    }


def _rule_rows(verdict: Record) -> Iterator[Record]:
    yield {
        "rule_id": RATIO_RULE,
        "severity": "critical",
        "is_passed": RATIO_RULE not in verdict["failed_rules"],
        "checked_count": verdict["rows"],
        "unexpected_count": verdict["rows_refused"],
        "pass_ratio": verdict["pass_ratio"],
    }
    names = ("rule_id", "severity", "is_passed", "checked_count", "unexpected_count")
    for rule in verdict["results"]:
        if rule["rule_id"] != RATIO_RULE:
            yield {name: rule[name] for name in (*names, "pass_ratio", "observed_value", "error")}


def _anomaly_rows(  # noqa: PLR0913, PLR0917 - what is known of a gate
    run: Run,
    table: str,
    verdict: Record,
    stage: Record | None,
    former: Former,
    connection: DuckDBPyConnection,
) -> Iterator[Record]:
    if stage is None:
        return
    files, rows = [DataFile.parse(file) for file in stage["files"]], ""
    if table in CONTRACTS:
        rows = staged_batch(run, rule_book(table))
    for measure in measures(run, table, files, verdict["seconds"], connection, rows):
        days = former.get((table, measure.rule_id), [])
        yield {
            "rule_id": measure.rule_id,
            "severity": "warning",
            "is_passed": not is_unusual(measure.value, days, measure.kind),
            "observed_value": measure.value,
            "checked_count": len(days),
        }
