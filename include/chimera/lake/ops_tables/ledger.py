"""Close a run: append its ledger and published versions, and write its report."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.contracts import BRONZE, DEAD_LETTERS, PARTITION, WINDOW_LEDGER
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import leaving_out, open_table, open_tables, row_count
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.ops_tables.consistent_snapshots import publish_versions
from include.chimera.lake.publish.verification import COUNTS, counts_by_attempt
from include.chimera.lake.staged.manifests import Batch, find_manifests
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import WHOLE_RUN, read_records, write_record
from include.chimera.lake.staged.reports import (
    BrokenRule,
    GateLine,
    Refusals,
    RunReport,
    TableCounts,
    WaitingRows,
)
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import among, connect, quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from include.chimera.window import Run


def close_run(run: Run, gated: Collection[str] = ()) -> RunReport:
    """Append the run's ledger and published versions, write its report, and return it.

    The ledger's counts come from the metadata of the run's own commits or, for an attempt that had
    nothing new to commit, from its gate's record. Closing a run is idempotent.

    Args:
        run: The DAG run.
        gated: The tables whose gates must have passed for a snapshot to be published.
    """
    fault_point("ledger.start")
    publications, verdicts = read_records(run, Publication), read_records(run, Verdict)
    append_rows(WINDOW_LEDGER, list(_ledger_rows(run, publications)), run)
    fault_point("ledger.committed")
    publish_versions(run, gated, publications, verdicts)
    report = RunReport(
        run_id=run.run_id,
        correlation_id=run.correlation_id,
        window=run.window,
        tables=tuple(storage.at_once(_table_counts, publications.values())),
        gates=tuple(map(_gate_line, verdicts.values())),
        refusals=tuple(_refusals(run)),
        held_back=tuple(_waiting_rows(run, publications)),
    )
    write_record(run, WHOLE_RUN, report)
    return report


def _ledger_rows(run: Run, publications: Mapping[str, Publication]) -> Iterator[dict[str, object]]:
    now = datetime.now(UTC)
    tables = open_tables(contract.name for contract in BRONZE)
    for contract in BRONZE:
        found: dict[int, Publication] = {}
        with leaving_out(contract.name):
            table = tables.get(contract.name)
            found = {} if table is None else counts_by_attempt(table, contract.name, run)
        recorded = publications.get(contract.name)
        if recorded is not None:
            found.setdefault(recorded.token, recorded)
        for token, publication in found.items():
            yield {
                "run_id": run.run_id,
                "correlation_id": run.correlation_id,
                "table_name": contract.name,
                "window_start": run.window.start,
                "window_end": run.window.end,
                **{name: getattr(publication, name) for name in COUNTS},
                "table_version": publication.version,
                "attempt_token": token,
                "recorded_at": now,
            }


def _table_counts(publication: Publication) -> TableCounts:
    rows: int | None = None
    with leaving_out(publication.table):
        table = open_table(publication.table)
        rows = row_count(table) if table else 0
    return TableCounts(
        publication.table,
        publication.rows_read,
        publication.rows_published,
        publication.rows_refused,
        publication.rows_duplicate,
        publication.version,
        rows,
    )


def _waiting_rows(run: Run, published: Collection[str]) -> Iterator[WaitingRows]:
    """Yield the rows that open transactions held back from the tables that the run published."""
    for table, staged in find_manifests(run).items():
        if table in published and isinstance(staged, Batch) and staged.held_back:
            yield WaitingRows(table, **asdict(staged.held_back), text=str(staged.held_back))


def _gate_line(verdict: Verdict) -> GateLine:
    broken = (rule for rule in verdict.results if not rule.is_passed)
    return GateLine(
        verdict.table,
        verdict.outcome,
        len(verdict.results),
        tuple(BrokenRule(rule.rule_id, rule.severity, rule.unexpected_count) for rule in broken),
    )


def _refusals(run: Run) -> list[Refusals]:
    """Count the dead letters of the run, and of its hours, by source and reason.

    Both, because a run also refuses records of other hours or of no hour, and an earlier run may
    have refused records of this run's hours.
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
    return [Refusals(*row) for row in rows]
