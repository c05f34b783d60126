"""The run's last word: ledger and published versions appended, a report written for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.chimera.contracts import BRONZE, DEAD_LETTERS, PARTITION, WINDOW_LEDGER
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import leaving_out, open_table, row_count
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.ops_tables.consistent_snapshots import publish_versions
from include.chimera.lake.publish.verification import COUNTS, counts_by_attempt
from include.chimera.lake.staged.held_back import HeldBack
from include.chimera.lake.staged.manifests import (
    PUBLICATION,
    REPORT,
    STAGE,
    VERDICT,
    WHOLE_RUN,
    read_records,
    write_record,
)
from include.chimera.lake.store.duckdb_sessions import among, connect, quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from include.chimera.window import Run


def close_run(run: Run, gated: Collection[str] = ()) -> dict[str, Any]:
    """Append the run's ledger and published versions, write its report, and return it.

    Source of the ledger's counts: the metadata of the run's own commits; of an attempt that had
    nothing new to commit, what its gate recorded. Closing a run twice adds no second row.

    Args:
        run: The DAG run.
        gated: The tables whose gates have to have passed for a snapshot to be published.
    """
    fault_point("ledger.start")
    publications, verdicts = read_records(run, PUBLICATION), read_records(run, VERDICT)
    now = datetime.now(UTC)
    append_rows(WINDOW_LEDGER, list(_ledger_rows(run, publications, now)), run)
    fault_point("ledger.committed")
    publish_versions(run, gated)
    report = {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "window": [run.window.start.isoformat(), run.window.end.isoformat()],
        "tables": [_table_report(record) for record in publications.values()],
        "gates": [_gate_report(record) for record in verdicts.values()],
        "refusals": _refusals(run),
        "held_back": _held_back(run, publications),
    }
    write_record(run, WHOLE_RUN, REPORT, report)
    return report


def _ledger_rows(
    run: Run, publications: dict[str, dict[str, Any]], now: datetime
) -> Iterator[dict[str, Any]]:
    for contract in BRONZE:
        found: dict[int, dict[str, Any]] = {}
        with leaving_out(contract.name):
            table = open_table(contract.name)
            found = {} if table is None else counts_by_attempt(table, run)
        record = publications.get(contract.name)
        if record is not None:
            found.setdefault(record["token"], record)
        for token, counts in found.items():
            yield {
                "run_id": run.run_id,
                "correlation_id": run.correlation_id,
                "table_name": contract.name,
                "window_start": run.window.start,
                "window_end": run.window.end,
                **{name: counts[name] for name in COUNTS},
                "table_version": counts["version"],
                "attempt_token": token,
                "recorded_at": now,
            }


def _table_report(record: dict[str, Any]) -> dict[str, Any]:
    rows: int | None = None
    with leaving_out(record["table"]):
        table = open_table(record["table"])
        rows = row_count(table) if table else 0
    return {
        "table": record["table"],
        **{key: record[key] for key in COUNTS},
        "rows_total": rows,
        "version": record["version"],
    }


def _held_back(run: Run, published: Collection[str]) -> list[dict[str, Any]]:
    """Return what open transactions kept from the tables that the run published."""
    return [
        {"table": table, **stage["held_back"], "text": str(HeldBack(**stage["held_back"]))}
        for table, stage in read_records(run, STAGE).items()
        if table in published and stage.get("held_back")
    ]


def _gate_report(verdict: dict[str, Any]) -> dict[str, Any]:
    return {
        "table": verdict["table"],
        "verdict": verdict["outcome"],
        "rule_count": verdict["rules"],
        "failed_rules": [
            {key: rule[key] for key in ("rule_id", "severity", "unexpected_count")}
            for rule in verdict["results"]
            if not rule["is_passed"]
        ],
    }


def _refusals(run: Run) -> list[dict[str, Any]]:
    """Count the dead letters of the run and of its hours by source and reason.

    A run also refuses records of other hours, and of none; and its hours' records may have been
    refused by a run before.
    """
    table = open_table(DEAD_LETTERS.name)
    if table is None:
        return []
    with connect() as connection:
        rows = connection.execute(
            f"select source, reason, count(*) from ({scan(table, DEAD_LETTERS.name)}) "
            f"where event = 'refused' and (run_id = {quote(run.run_id)} "
            f"or {among(PARTITION, run.window.labels())}) group by all order by all"
        ).fetchall()
    return [{"source": source, "reason": reason, "count": count} for source, reason, count in rows]
