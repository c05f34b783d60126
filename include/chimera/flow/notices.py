"""From Airflow's callbacks to messages: what is told when.

A task's failure is told by the task's own process, or by the DAG processor if that was killed.
Success is told by the last task, so that it costs no parse of the DAG. A message never fails a
task: Airflow logs what a callback raises.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

from include.chimera.alerts import messages
from include.chimera.alerts.faults import Fault, cause
from include.chimera.alerts.messages import Affected
from include.chimera.alerts.outbox import announce, close_failure, failed_hours, open_failure
from include.chimera.errors import GateFailedError
from include.chimera.flow.channels import channels
from include.chimera.flow.runs import read_run
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from include.chimera.window import Run

_GATE = re.compile(r"(?:^|\.)gate_(bronze|silver|gold)_(\w+)$")


def tell_failure(context: Context) -> None:
    """Tell that a task has failed for good (a task's `on_failure_callback`)."""
    told = channels()
    if not told:
        return
    run, ti = read_run(context["dag_run"], context["params"]), context["ti"]
    key = f"{run.run_id}|{ti.task_id}|{ti.try_number}"
    exception = context.get("exception")
    error = exception if isinstance(exception, BaseException) else None
    affected = _affected(context["task"])
    verdict = _verdict(run, affected, error)
    message = (
        messages.gate_failure(run, key, verdict, _remedies(verdict["table"]), affected)
        if verdict
        else messages.failure(run, key, ti.task_id, Fault.of(error), affected)
    )
    link = getattr(ti, "log_url", None) or run_url(run.run_id, ti.dag_id)
    if announce(replace(message, link=link), told):
        open_failure(run.window, message.title)


def tell_run_failure(context: Context) -> None:
    """Tell that a run failed without a failed task: its time was up (a DAG's callback)."""
    told = channels()
    if not told or context.get("reason") == "task_failure" or "dag_run" not in context:
        return
    dag_run = context["dag_run"]
    run = read_run(dag_run, context["params"])
    fault = Fault.of(TimeoutError()) if context.get("reason") == "timed_out" else Fault.of(None)
    started = dag_run.start_date or dag_run.run_after
    message = replace(
        messages.failure(run, f"{run.run_id}|{started}", "the whole run", fault, Affected()),
        link=run_url(run.run_id, dag_run.dag_id),
    )
    if announce(message, told):
        open_failure(run.window, message.title)


def tell_success(context: Context) -> None:
    """Tell what a run published, or that failed hours are well again (the last task's callback)."""
    from include.chimera.lake.stage import REPORT, read_record  # noqa: PLC0415 - heavy

    told = channels()
    if not told:
        return
    dag_run: Any = context["dag_run"]
    run = read_run(dag_run, context["params"])
    report = read_record(run, ".", REPORT)
    if report is None:
        return
    key = f"{run.run_id}|{context['ti'].try_number}"
    failed = close_failure(run.window)
    if failed:
        announce(messages.recovery(run, key, report, failed), told)
    else:
        seconds = (datetime.now(UTC) - dag_run.start_date).total_seconds()
        announce(messages.success(run, key, report, seconds, failed_hours()), told)
    threshold = get_settings().dead_letters_alert
    if sum(item["count"] for item in report["refusals"]) > threshold:
        announce(messages.dead_letters(run, report["refusals"], threshold), told)


def tell_late(context: Mapping[str, Any]) -> None:
    """Tell that a run is not over in time (the DAG's deadline, run by the executor).

    Backfills are queued together and all of them would be late; of a run that has failed by now
    the failure was told.
    """
    dag_run = context["dag_run"]
    if dag_run["run_type"] == "backfill" or dag_run["state"] == "failed":
        return
    run = read_run(_plain_run(dag_run), dag_run.get("conf") or {})
    minutes = get_settings().deadline_seconds / 60
    message = messages.late(run, minutes, dag_run["state"])
    announce(replace(message, link=run_url(run.run_id, dag_run["dag_id"])), channels())


def run_url(run_id: str, dag_id: str = "chimera_etl_hourly") -> str:
    """Return the link to a run in Airflow's UI, "" where the UI has no address."""
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/dags/{dag_id}/runs/{run_id}" if base else ""


def _verdict(run: Run, affected: Affected, error: BaseException | None) -> dict[str, Any] | None:
    """Return the gate's record where a negative verdict is what failed, else None."""
    from include.chimera.lake.stage import VERDICT, read_record  # noqa: PLC0415 - heavy

    is_verdict = error is not None and isinstance(cause(error), GateFailedError)
    return read_record(run, affected.table, VERDICT) if is_verdict and affected.table else None


def _remedies(table: str) -> dict[str, str]:
    from include.chimera.quality.rules import rule_book  # noqa: PLC0415 - heavy

    return {rule.rule_id: rule.remedy for rule in rule_book(table).rules}


def _affected(task: Any) -> Affected:  # noqa: ANN401 - Airflow's operator
    """Return the table that a task works for, its live version, and the tables behind it."""
    from include.chimera.lake.tables import open_table  # noqa: PLC0415 - heavy

    behind = sorted(task.get_flat_relative_ids(upstream=False))
    tables = [table for name in behind if (table := _table_of(name))]
    own = _table_of(task.task_id)
    if own is None:
        # An extract or a model stands right before its gate.
        own = next((t for n in sorted(task.downstream_task_ids) if (t := _table_of(n))), None)
    live = None
    with suppress(OSError):
        live = open_table(own) if own else None
    downstream = tuple(table for table in tables if table != own)
    return Affected(own, live.version() if live else None, downstream)


def _table_of(task_id: str) -> str | None:
    found = _GATE.search(task_id)
    return f"{found[1]}.{found[2]}" if found else None


def _plain_run(dag_run: Mapping[str, Any]) -> SimpleNamespace:
    """Return a run of the REST API's form as `read_run` wants it."""
    names = ("data_interval_start", "data_interval_end", "run_after")
    moments = {
        name: datetime.fromisoformat(dag_run[name]) if dag_run[name] else None for name in names
    }
    return SimpleNamespace(run_id=dag_run["dag_run_id"], run_type=dag_run["run_type"], **moments)
