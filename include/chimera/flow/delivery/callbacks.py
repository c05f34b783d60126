"""Send messages from Airflow's callbacks.

A failed task announces its failure from its own process. For a killed task Airflow 3.3 calls no
task callback (its supervisor reports the failure itself), so the DAG's callback announces it when
the run ends. If the supervisor is lost too, the DAG processor announces it.
The last task announces success, which saves a parse of the DAG. A message never fails a task:
Airflow logs what a callback raises.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from include.chimera.alerts import messages
from include.chimera.alerts.causes import Fault, cause
from include.chimera.alerts.messages import Affected, Message
from include.chimera.alerts.outbox import (
    announce,
    close_failure,
    failed_hours,
    is_known,
    note,
    open_failure,
)
from include.chimera.errors import GateFailedError
from include.chimera.flow.cosmos.dbt_events import explain
from include.chimera.flow.delivery.channels import channels
from include.chimera.flow.foreign_errors import own_words
from include.chimera.flow.metrics_backend import send
from include.chimera.flow.run_context import HOURLY, begin_task, enter_run
from include.chimera.observe.metrics import Sample
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from include.chimera.alerts.outbox import Send
    from include.chimera.lake.staged.verdicts import Verdict
    from include.chimera.window import Run

WHOLE_RUN = "the whole run"
_LATE_BY_NATURE = {"backfill", "operator_triggered"}


@own_words()
def tell_failure(context: Context) -> None:
    """Announce that a task has failed for good (a task's `on_failure_callback`)."""
    told = channels()
    if not told:
        return
    run, ti = begin_task(context), context["ti"]
    key = f"{run.run_id}|{ti.task_id}|{ti.try_number}"
    exception = context.get("exception")
    if "exception" not in context and ti.try_number <= ti.max_tries:
        return  # A lost heartbeat, to be retried: Airflow 3.3 calls this callback anyway.
    error = explain(exception) if isinstance(exception, BaseException) else None
    affected = _affected(context["task"])
    verdict = _verdict(run, affected, error)
    message = (
        messages.gate_failure(run, key, verdict, _remedies(verdict.table), affected)
        if verdict
        else messages.failure(run, key, ti.task_id, Fault.of(error), affected)
    )
    link = getattr(ti, "log_url", None) or run_url(run.run_id, ti.dag_id)
    # Note it first: the DAG's callback may run while this message is still being sent.
    _note(*_marks(context["dag_run"], ti.task_id))
    _announce_failure(replace(message, link=link), told, run, ti.dag_id)


@own_words()
def tell_run_failure(context: Context) -> None:
    """Announce failures that no task could: a killed task, or a run that timed out.

    When a cleared run fails again, Airflow does not say which tasks have run again. Failed tasks
    that were announced before the clear, but not since, share one message. So do all if the lake
    takes no marks: those that could speak have told of it themselves.
    """
    told = channels()
    if not told or "dag_run" not in context:
        return
    dag_run: Any = context["dag_run"]
    run, reason = enter_run(dag_run, context["params"]), context.get("reason")

    def tell(message: Message) -> None:
        link = run_url(run.run_id, dag_run.dag_id)
        _announce_failure(replace(message, link=link), told, run, dag_run.dag_id)

    if reason != "task_failure":
        fault = Fault.of(TimeoutError() if reason == "timed_out" else None)
        key = _marks(dag_run, WHOLE_RUN)[0].key
        tell(messages.failure(run, key, WHOLE_RUN, fault, Affected()))
        return
    untold = _untold(dag_run)
    for task_id in untold["killed"]:
        affected = _affected(context["dag"].get_task(task_id))
        key = _marks(dag_run, task_id)[0].key
        tell(messages.failure(run, key, task_id, Fault.of(None), affected))
    if again := untold["again"]:
        tell(messages.failed_again(run, _marks(dag_run, "again")[0].key, again))
    if unmarked := untold["unmarked"]:
        tell(messages.failed_unmarked(run, _marks(dag_run, "unmarked")[0].key, unmarked))


@own_words()
def tell_success(context: Context) -> None:
    """Announce success or recovery (the last task's `on_success_callback`)."""
    from include.chimera.lake.staged.records import WHOLE_RUN, read_record  # noqa: PLC0415 - heavy
    from include.chimera.lake.staged.reports import RunReport  # noqa: PLC0415 - heavy

    told = channels()
    if not told:
        return
    dag_run: Any = context["dag_run"]
    run = begin_task(context)
    report = read_record(run, WHOLE_RUN, RunReport)
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
    if sum(refusals.count for refusals in report.refusals) > threshold:
        announce(messages.dead_letters(run, report.refusals, threshold), told)


@own_words()
def tell_late(context: Mapping[str, Any], **_: object) -> None:
    """Announce that a run missed its deadline (the DAG's deadline callback, in the executor).

    Skip backfills, which are queued together and would all be late; missed hours, which are late as
    they begin; failed runs, whose failure was announced; and runs that ended in time: Airflow drops
    the deadline only of runs that its scheduler saw succeed, not of runs that a person marked as
    successful.
    """
    dag_run, ended = context["dag_run"], context["dag_run"]["end_date"]
    if dag_run["run_type"] in _LATE_BY_NATURE or dag_run["state"] == "failed":
        return
    due = datetime.fromisoformat(str(context["deadline"]["deadline_time"]))
    if dag_run["state"] == "success" and ended and datetime.fromisoformat(ended) <= due:
        return
    # Airflow counts missed deadlines too, but includes backfills under the same labels.
    send([Sample("chimera_runs_late_total", 1)])
    run = enter_run(_plain_run(dag_run), dag_run.get("conf") or {})
    minutes = get_settings().deadline_seconds / 60
    message = messages.late(run, minutes, dag_run["state"])
    announce(replace(message, link=run_url(run.run_id, dag_run["dag_id"])), channels())


def run_url(run_id: str, dag_id: str = HOURLY) -> str:
    """Return the link to a run in Airflow's UI; "" if `api.base_url` is not set."""
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/dags/{dag_id}/runs/{run_id}" if base else ""


def _announce_failure(message: Message, told: Mapping[str, Send], run: Run, dag_id: str) -> None:
    """Announce a failure; for an hourly run, record its hours as failed until they publish."""
    if announce(message, told) and dag_id == HOURLY:
        with suppress(OSError):  # a full lake: then no recovery is told, but the failure is
            open_failure(run.window, message.title)


def _marks(dag_run: Any, task_id: str) -> tuple[Message, Message]:  # noqa: ANN401 - Airflow's DagRun
    """Return the marks of a task's failure: since the run was last cleared, and ever."""
    now = f"{dag_run.run_id}|{dag_run.clear_number}|{task_id}"
    ever = f"{dag_run.run_id}|{task_id}"
    return Message("failure", now, "", ()), Message("failure", ever, "", ())


def _untold(dag_run: Any) -> dict[str, list[str]]:  # noqa: ANN401 - Airflow's DagRun
    """Return the failed tasks that have not told of this failure.

    They were killed, failed again after they had told of it before the run was cleared, or are
    unmarked: the lake keeps no marks, so nobody knows whether they have.
    """
    found: dict[str, list[str]] = {"killed": [], "again": [], "unmarked": []}
    for task_id in _tasks_in(dag_run, "failed"):
        now, ever = _marks(dag_run, task_id)
        if not _is_noted(ever):
            found["killed" if _note(ever) else "unmarked"].append(task_id)
        elif not _is_noted(now):
            found["again"].append(task_id)
    return found


def _note(*marks: Message) -> bool:
    """Record that a failure was announced; return whether the lake took it."""
    with suppress(OSError):
        for mark in marks:
            note(mark)
        return True
    return False


def _is_noted(mark: Message) -> bool:
    with suppress(OSError):
        return is_known(mark)
    return False


def judged_tables(context: Context) -> set[str]:
    """Return the tables whose gates have succeeded or failed in the run's current state.

    This leaves out gates that have not started since the run was cleared, and tables that are no
    longer in the pipeline.
    """
    ended, tasks = _tasks_in(context["dag_run"], "success", "failed"), context["dag"].task_dict
    return {table for name in ended if (table := _table_of(tasks.get(name)))}


def _tasks_in(dag_run: Any, *wanted: str) -> list[str]:  # noqa: ANN401 - Airflow's DagRun
    states = RuntimeTaskInstance.get_task_states(dag_run.dag_id, run_ids=[dag_run.run_id])
    tasks = states.get(dag_run.run_id, {})
    return sorted(name for name, state in tasks.items() if state in wanted)


def _verdict(run: Run, affected: Affected, error: BaseException | None) -> Verdict | None:
    """Return the gate's verdict if a negative verdict caused the failure, else None."""
    from include.chimera.lake.staged.records import read_record  # noqa: PLC0415 - heavy
    from include.chimera.lake.staged.verdicts import Verdict  # noqa: PLC0415 - heavy

    is_verdict = error is not None and isinstance(cause(error), GateFailedError)
    return read_record(run, affected.table, Verdict) if is_verdict and affected.table else None


def _remedies(table: str) -> dict[str, str]:
    from include.chimera.quality.rules.book import rule_book  # noqa: PLC0415 - heavy

    return {rule.rule_id: rule.remedy for rule in rule_book(table).rules}


def _affected(task: Any) -> Affected:  # noqa: ANN401 - Airflow's operator
    """Return the table that a task works for, its live version, and its downstream tables."""
    from include.chimera.lake.delta.tables import open_table  # noqa: PLC0415 - heavy

    # An extract or a model comes right before its gate.
    near = [table for each in (task, *task.downstream_list) if (table := _table_of(each))]
    own, live = near[0] if near else None, None
    with suppress(OSError):
        live = open_table(own) if own else None
    behind = {t for each in task.get_flat_relatives(upstream=False) if (t := _table_of(each))}
    return Affected(own, live.version() if live else None, tuple(sorted(behind - {own})))


def _table_of(task: Any) -> str | None:  # noqa: ANN401 - Airflow's operator, or None
    """Return the table that a gate judges, None for other tasks.

    Callbacks see the operators of a parsed DAG; serialized ones lack the attribute.
    """
    return getattr(task, "table", None)


def _plain_run(dag_run: Mapping[str, Any]) -> SimpleNamespace:
    """Convert a run from the REST API's form to the one that `read_run` takes."""
    names = ("data_interval_start", "data_interval_end", "run_after")
    moments = {
        name: datetime.fromisoformat(dag_run[name]) if dag_run[name] else None for name in names
    }
    return SimpleNamespace(run_id=dag_run["dag_run_id"], run_type=dag_run["run_type"], **moments)
