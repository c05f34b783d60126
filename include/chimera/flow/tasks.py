"""The TaskFlow tasks: extraction, upkeep, report."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow.sdk import BaseHook, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from include.chimera.errors import SnapshotMissingError
from include.chimera.flow.connections import (
    API_LOGS,
    APP_DB,
    JSON,
    OTEL,
    PROMETHEUS,
    REPORTS,
    api_logs_root,
    libpq_uri,
    own_connection,
    prometheus_server,
    records_root,
    reports_root,
    spans_root,
)
from include.chimera.flow.delivery.callbacks import judged_tables, run_url, tell_success
from include.chimera.flow.delivery.channels import channels
from include.chimera.flow.doc_pages import task_pages
from include.chimera.flow.foreign_errors import own_words
from include.chimera.flow.metrics_backend import emit
from include.chimera.flow.retry_policy import EXTRACT, GATE, UPKEEP
from include.chimera.flow.run_context import begin_task
from include.chimera.profiles.chosen import intake_of
from include.chimera.quality.rules.book import gated_tables
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import XComArg

    from include.chimera.lake.staged.manifests import Batch
    from include.chimera.profiles.chosen import Intake
    from include.chimera.window import Run


def _counts(batch: Batch) -> dict[str, str | int]:
    """Return what goes to XCom: names and counts, never data."""
    return {"table": batch.table, "rows": batch.rows_read, "refused": batch.rows_unparsed}


def _begin(table: str) -> Run:
    """Return the run of an extraction.

    Raises:
        AirflowSkipException: The run's params leave this table out.
    """
    context = get_current_context()
    run, asked = begin_task(context), context["params"].get("sources")
    if asked and table not in asked:
        raise AirflowSkipException(f"asked for {', '.join(asked)} alone")  # noqa: EM102, TRY003 - no error
    return run


def _read_database(intake: Intake, run: Run) -> Batch:
    from include.chimera.sources.postgres.extract import extract_table  # noqa: PLC0415 - heavy

    return extract_table(intake, libpq_uri(BaseHook.get_connection(APP_DB)), run)


def _read_logs(_: Intake, run: Run) -> Batch:
    from include.chimera.sources.api_logs.extract import extract_api_logs  # noqa: PLC0415 - heavy

    allow_shrink = bool(get_current_context()["params"].get("allow_shrink"))
    root = api_logs_root(own_connection(API_LOGS))
    return extract_api_logs(root, run, allow_shrink=allow_shrink)


def _read_reports(_: Intake, run: Run) -> Batch:
    from include.chimera.sources.reports.extract import extract_reports  # noqa: PLC0415 - heavy

    root = reports_root(own_connection(REPORTS))
    return extract_reports(root, run, ZoneInfo(get_settings().evaluations_timezone))


def _read_spans(intake: Intake, run: Run) -> Batch:
    from include.chimera.sources.otel.extract import extract_spans  # noqa: PLC0415 - heavy

    root = spans_root(own_connection(OTEL))
    return extract_spans(intake.contract, root, run)


def _read_records(intake: Intake, run: Run) -> Batch:
    from include.chimera.sources.json_records.extract import extract_records  # noqa: PLC0415 - heavy

    root = records_root(own_connection(JSON))
    return extract_records(intake, root, run)


def _read_metrics(intake: Intake, run: Run) -> Batch:
    from include.chimera.sources.prometheus import extract  # noqa: PLC0415 - heavy

    server = prometheus_server(BaseHook.get_connection(PROMETHEUS))
    return extract.extract_provider_metrics(intake, server, run)


_READERS: dict[str, Callable[[Intake, Run], Batch]] = {
    APP_DB: _read_database,
    API_LOGS: _read_logs,
    PROMETHEUS: _read_metrics,
    REPORTS: _read_reports,
    OTEL: _read_spans,
    JSON: _read_records,
}


def extract_task(intake: Intake) -> Callable[[], XComArg]:
    """Return the task that stages the run's window of a bronze table's source."""
    contract = intake.contract
    told = task_pages.of_extract(intake)
    arguments = {"task_id": f"extract_{contract.table}", "doc_md": told, **EXTRACT}
    if intake.source == APP_DB:
        arguments["pool"] = APP_DB

    @task(**arguments)  # type: ignore[untyped-decorator]  # its types can't follow **
    @own_words()
    def extract() -> dict[str, str | int]:
        return _counts(_READERS[intake.source](intake, _begin(contract.name)))

    found: Callable[[], XComArg] = extract
    return found


@task(trigger_rule="none_failed", doc_md=task_pages.OPTIMIZE, **UPKEEP)
@own_words()
def optimize_layer(layer: str) -> dict[str, int]:
    """Compact and vacuum the layer's tables that need it."""
    from include.chimera.lake.upkeep.optimization import optimize_layer as optimize  # noqa: PLC0415 - heavy

    begin_task(get_current_context())
    return {upkeep.table: upkeep.files_after for upkeep in optimize(layer)}


@task(trigger_rule="all_done", doc_md=task_pages.RECORD, **UPKEEP)
@own_words()
def record_quality() -> dict[str, int]:
    """Append the gates' results, good or bad, write the reports, and send the metrics."""
    from include.chimera.alerts.outbox import resend  # noqa: PLC0415 - heavy
    from include.chimera.lake.staged.manifests import keep_only  # noqa: PLC0415 - heavy
    from include.chimera.operations.quality_report import write_report  # noqa: PLC0415 - heavy
    from include.chimera.quality.quality_results import record_quality as record  # noqa: PLC0415 - heavy

    context = get_current_context()
    run = begin_task(context)
    keep_only(run, judged_tables(context))
    rows = record(run)
    with suppress(OSError):  # a message never fails a run; a metric counts those still waiting
        resend(channels())
    emit(run)
    write_report(run, run_url("{run_id}"))
    return {"rows": rows}


@task(on_success_callback=tell_success, doc_md=task_pages.REPORT, **UPKEEP)
@own_words()
def report_run() -> dict[str, int]:
    """Append the run's ledger and published versions, and write its report and what readers see."""
    from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot, write_views  # noqa: PLC0415
    from include.chimera.lake.ops_tables.ledger import close_run  # noqa: PLC0415 - heavy
    from include.chimera.operations.insight.page import write_insight  # noqa: PLC0415 - heavy

    run = begin_task(get_current_context())
    report = close_run(run, gated_tables())
    with suppress(SnapshotMissingError):  # of the first runs, side by side, the last has one
        snapshot = published_snapshot()
        write_views(snapshot)
        write_insight(snapshot)
    return {"tables": len(report.tables), "gates": len(report.gates)}


@task(pool=APP_DB, doc_md=task_pages.COMPARE, **EXTRACT)
@own_words()
def compare_keys(table: str) -> dict[str, str | int]:
    """Stage tombstones of rows that are gone from the source, or hours whose rows came late."""
    from include.chimera.sources.postgres.deletions import extract_deletions  # noqa: PLC0415 - heavy
    from include.chimera.sources.postgres.late_rows import extract_late_rows  # noqa: PLC0415 - heavy

    run, intake = begin_task(get_current_context()), intake_of(table)
    extract = extract_late_rows if intake.compared == "missing" else extract_deletions
    return _counts(extract(intake, libpq_uri(BaseHook.get_connection(APP_DB)), run))


@task(doc_md=task_pages.REPLAY, **GATE)
@own_words()
def replay_letters() -> dict[str, int]:
    """Parse, validate and publish waiting dead letters again; the params select them."""
    from include.chimera.operations.replay import replay  # noqa: PLC0415 - heavy

    context = get_current_context()
    begin_task(context)
    params = context["params"]
    done = replay(params.get("source"), params.get("letter_ids") or ())
    return {
        "letters": sum(each.letters for each in done),
        "published": sum(each.published for each in done),
        "parked": sum(each.parked for each in done),
    }
