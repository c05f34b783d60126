"""Serves Airflow's UI on a lake of whole days, and plants incidents there as it is told.

A process of its own: Airflow reads its database's address when it is imported. Prints its URL and a
token for each role, then reads names of incidents, a line for each scene, and answers `planted`.
Errors are those that the pipeline's own code raises; only the scheduler's part is written by hand.
"""

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pyarrow as pa
import uvicorn
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from deltalake import write_deltalake
from sqlalchemy import select
from structlog.tracebacks import ExceptionDictTransformer

from include.chimera.contracts import DEAD_LETTERS, PARTITION, QUALITY_RESULTS, WINDOW_LEDGER
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import ChimeraError
from include.chimera.flow.connections import api_logs_root, own_connection
from include.chimera.flow.health_page import moment
from include.chimera.flow.run_context import HOURLY
from include.chimera.lake.delta.tables import contract_table
from include.chimera.lake.publish.stop_switch import read_decisions
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import run_folder, write_record
from include.chimera.lake.staged.verdicts import RATIO_RULE, RuleResult, Verdict
from include.chimera.local.servers.ports import choose_port
from include.chimera.operations import manual_controls
from include.chimera.operations.health.table_graph import table_graph
from include.chimera.quality.quality_results import record_quality
from include.chimera.quality.rules.book import rule_book
from include.chimera.relation import gate_id
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Window, hour_label
from plugins.source_sensor import SourceSensor, lacks
from tests.integration.flow.health import NEWEST, NOW, plant, run_of
from tests.integration.flow.own_airflow import known_dags
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import gated, stage
from tests.integration.quality.hours import bronze_tables

GENERATIONS, EVALUATIONS, LOGS = "bronze.generations", "bronze.evaluations", "bronze.api_logs"
RUN = run_of(NEWEST)
FEED = GeneratedFeed(1000)
DAYS = [24 * day + 1 for day in range(1, 7)]  # the newest hour's own, on former days
MISSING = 4
IN_A_PROCESS = {
    "full_disk": "extract_generations",
    "gate_down": "gate_bronze_evaluations",
    "model_broken": "build_dim_providers",
    "wrong_credentials": "extract_models",
}


def append(contract, rows):
    """Append rows in one commit, a file for each hour."""
    place = contract_table(contract.name)
    write_deltalake(place, pa.Table.from_pylist(rows, schema=contract.schema), mode="append")


def about(run):
    window = run.window
    return {
        "run_id": run.run_id,
        "correlation_id": run.correlation_id,
        "window_start": window.start,
        "window_end": window.end,
        "recorded_at": window.end + HOUR / 20,
        PARTITION: hour_label(window.start),
    }


def results(table):
    """Return good results of a table's rules, with what is usual of each value."""
    return [
        RuleResult(
            rule.rule_id,
            rule.severity,
            is_passed=True,
            checked_count=1000,
            unexpected_count=0,
            observed_value=50 * rule.bounds["floor"] if rule.check == "usual" else None,
        )
        for rule in rule_book(table).rules
    ]


def history():
    """Write what good hours leave: those of the last day, and the newest one's of former days."""
    runs = [run_of(Window.of_hour(NOW - back * HOUR)) for back in sorted({*range(2, 26), *DAYS})]
    whole = RuleResult(RATIO_RULE, "critical", True, 1000, 0)
    rows = RuleResult("anomaly_rows", "warning", True, 5, None, 1000.0)
    judged = [
        {
            **about(run),
            "table_name": table,
            "verdict": "passed",
            "gate_seconds": 1.0,
            **{
                name: getattr(result, name)
                for name in QUALITY_RESULTS.schema.names
                if hasattr(result, name)
            },
        }
        for run in runs
        for table in table_graph()
        for result in (whole, rows, *results(table))
    ]
    append(QUALITY_RESULTS, judged)
    counts = dict.fromkeys(("rows_read", "rows_published", "rows_refused", "rows_duplicate"), 1000)
    rest = {**counts, "table_version": 1, "attempt_token": 1}
    bronze = [name for name, node in table_graph().items() if node.source]
    append(
        WINDOW_LEDGER,
        [{**about(run), **rest, "table_name": table} for run in runs for table in bronze],
    )
    contract_table(DEAD_LETTERS.name)
    earlier = run_of(Window.of_hour(NOW - 2 * HOUR))
    tables = bronze_tables(FEED, earlier.window)
    for table in (GENERATIONS, EVALUATIONS):
        judge(earlier, table, tables[table])
    judge(RUN, LOGS, bronze_tables(FEED, NEWEST)[LOGS])


def judge(run, table, rows, **options):
    """Stage rows and let their gate decide, as its task does.

    Raises:
        ChimeraError: The gate published nothing.
    """
    stage(run, table, rows, **options)
    with gated(run, table) as (gate, _):
        gate.publish()


def reset():
    """Make the newest hour a good one of all tables."""
    if read_decisions() and read_decisions()[-1].is_stopped:
        manual_controls.resume_publishing("mended", "maria")
    for path in (run_folder(RUN), get_settings().task_logs):
        shutil.rmtree(path, ignore_errors=True)
    contract_table(QUALITY_RESULTS.name).delete(f"run_id = '{RUN.run_id}'")
    said_at = min(NOW + HOUR / 20, datetime.now(UTC))
    for table in table_graph():
        rules = tuple(results(table))
        verdict = Verdict(table, RUN.run_id, NEWEST, True, rules, 1000, 0, (), 1.0, said_at)
        write_record(RUN, table, verdict)
        write_record(RUN, table, Publication(table, 1000, 1000, 0, 0, 1))
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == RUN.run_id))
        run.state = "success"
        for ti in run.task_instances:
            ti.state, ti.try_number = "success", 1


def fail(name, error=None, tries=1):
    """Let a task of the newest run fail, and what waits for it not run."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == RUN.run_id))
        dag = DBDagBag().get_dag_for_run(run, session)
        tasks = {ti.task_id: ti for ti in run.task_instances}
        failed = next(ti for ti in tasks.values() if ti.task_id.rpartition(".")[2] == name)
        for each in dag.get_task(failed.task_id).get_flat_relative_ids(upstream=False):
            if dag.get_task(each).trigger_rule == "all_success" and tasks[each].state != "failed":
                tasks[each].state = "upstream_failed"
                table = next((t for t in table_graph() if each.endswith(gate_id(t))), None)
                if table and table != failed.task_id:
                    shutil.rmtree(f"{run_folder(RUN)}/{table}", ignore_errors=True)
        failed.state, failed.try_number, run.state = "failed", tries, "failed"
        task_id = failed.task_id
    table = next(node.table for node in table_graph().values() if name in node.tasks)
    if not name.startswith("gate_"):
        shutil.rmtree(f"{run_folder(RUN)}/{table}", ignore_errors=True)
    log(task_id, error, tries)


def log(task_id, error, tries):
    """Write a failed task's log as Airflow does; a process that is killed says nothing."""
    place = Path(get_settings().task_logs, f"dag_id={HOURLY}", f"run_id={RUN.run_id}")
    place = place / f"task_id={task_id}" / f"attempt={tries}.log"
    place.parent.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).isoformat()
    lines = [{"timestamp": moment, "level": "info", "event": "begun"}]
    if error is not None:
        chain = ExceptionDictTransformer(show_locals=False)((type(error), error, None))
        event = "Task failed with exception"
        lines.append({"timestamp": moment, "level": "error", "event": event, "error_detail": chain})
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))


def raised_by(call, *arguments, **options):
    """Return the error that ends a call."""
    try:
        call(*arguments, **options)
    except ChimeraError as error:
        return error
    raise AssertionError(call)


@cache
def in_a_process(name):
    """Return the error of what fails in a process of its own."""
    bounds = (NEWEST.start.isoformat(), NEWEST.end.isoformat())
    module = ("-W", "ignore", "-m", "tests.integration.flow.failures")
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, *module, name, f"other__{name}", *bounds],
        stdout=subprocess.PIPE,
        check=True,
    )
    return pickle.loads(base64.b64decode(done.stdout))  # noqa: S301 - as above


def late_source():
    """The hour's log still grows, and goes on to."""
    root = Path(get_settings().state_dir, "sources", "api_logs")
    file = root / f"dt={NEWEST.start:%Y-%m-%d}" / f"hour={NEWEST.start:%H}" / "api.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (time.time() + 600,) * 2)
    sensor = SourceSensor(task_id="wait_for_api_logs", source="api_logs", tables=[LOGS])
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == RUN.run_id))
        ti = next(each for each in run.task_instances if each.task_id.endswith("wait_for_api_logs"))
        context = {"dag_run": run, "params": {}, "ti": ti}
        missing = lacks("api_logs", api_logs_root(own_connection("api_logs")), NEWEST.end)
        error = raised_by(sensor.arrive, context, missing)
    fail("wait_for_api_logs", error)


def refused_batch():
    rows = bronze_tables(FEED, NEWEST)[GENERATIONS]
    bad = put("status", None)(rows, chosen_rows(rows, 0.09, 1))
    fail("gate_bronze_generations", raised_by(judge, RUN, GENERATIONS, bad))


def worker_killed():
    fail("extract_provider_metrics", tries=2)


def shrinking_hour():
    rows = bronze_tables(FEED, NEWEST)[LOGS].slice(0, 20)
    error = raised_by(judge, RUN, LOGS, rows, allow_shrink=False)
    fail("gate_bronze_api_logs", error, tries=2)


def drift():
    """A third of the usual rows, each of them good."""
    judge(RUN, EVALUATIONS, bronze_tables(FEED, NEWEST)[EVALUATIONS].slice(0, 300))
    record_quality(RUN)


def outlier():
    """One row far slower than ever; another one is refused, and waits among the dead letters."""
    rows = bronze_tables(FEED, NEWEST)[GENERATIONS]
    rows = put("status", None)(rows, chosen_rows(rows, 0.001, 2))
    judge(RUN, GENERATIONS, put("latency_ms", 3_000_000.0)(rows, chosen_rows(rows, 0.001, 1)))
    record_quality(RUN)


def stopped_publishing():
    manual_controls.stop_publishing("costs look wrong", "maria")
    rows = bronze_tables(FEED, NEWEST)[GENERATIONS]
    fail("gate_bronze_generations", raised_by(judge, RUN, GENERATIONS, rows))


def missing_hour():
    hour = NOW - MISSING * HOUR
    for contract in (WINDOW_LEDGER, QUALITY_RESULTS):
        contract_table(contract.name).delete(f"window_start = '{hour.isoformat()}'")


def main():
    known_dags()
    history()
    for back in (3, 2, 1):
        plant(Window.of_hour(NOW - back * HOUR), {})
    port = choose_port(0)
    server = uvicorn.Server(
        uvicorn.Config(create_app(apps="all"), port=port, log_level="error", access_log=False)
    )
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    users = {
        role: SimpleAuthManagerUser(username=role.lower(), role=role) for role in ("VIEWER", "USER")
    }
    tokens = {role: get_auth_manager().generate_jwt(user) for role, user in users.items()}
    say({"url": f"http://127.0.0.1:{port}", "tokens": tokens})
    for line in sys.stdin:
        reset()
        for name in line.split():
            if name in IN_A_PROCESS:
                error = in_a_process(name)
                fail(IN_A_PROCESS[name], error, 1 + (error.retries or 0))
            else:
                globals()[name]()
        moment.forget()
        say("planted")


def say(answer):
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
