"""Retries, timeouts, the deadline and every kind of message, on the real scheduler.

One stack runs them all: a DAG of drills that fail in each way, then the hourly DAG with a bad
batch, which is mended and cleared. Minutes are seconds here; the mechanisms are the pipeline's.
"""

import ast
import html
import json
import os
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from deltalake import DeltaTable

from include.chimera.errors import TerminalError
from include.chimera.lake.delta.lineage import TOUCHED
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.environment import keep_passwords
from include.chimera.local.servers.postgres_server import AIRFLOW_DATABASE
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.sources.api_logs.extract import parse_line
from include.chimera.sources.api_logs.log_files import hour_path
from include.chimera.window import HOUR, Window
from tests.corpus import CORPUS
from tests.e2e.duty import BASE, DEADLINE, WAIT, on_duty
from tests.e2e.letters import lake_of, published, refuse_generation, states_of
from tests.e2e.statsd import StatsdSink
from tests.e2e.watch import watching
from tests.integration.prometheus import PROMETHEUS, needs_prometheus

pytestmark = pytest.mark.e2e


EVENT_SECONDS = 20  # the scheduler shares two cores with the hour's tasks
DRILLS = ("outside", "outage", "data", "verdict", "killed", "slow_query", "stuck_native")


@pytest.fixture(scope="module")
def sink():
    """Listen to the stack's metrics."""
    with StatsdSink() as listening:
        yield listening


@pytest.fixture(scope="module")
def watch(sink, tmp_path_factory):
    """Let a Prometheus look on, where there is one: a quarter of an hour is as many seconds."""
    if PROMETHEUS is None:
        yield None
        return
    replaced = {"15m": "15s", '"chimera_.*"': '"chimera_.*|drill.*"'}
    with watching(tmp_path_factory.mktemp("watch"), lambda: sink.lines, replaced) as started:
        yield started


@pytest.fixture(scope="module")
def duty(sink, watch, tmp_path_factory):  # noqa: ARG001 - Prometheus is there first, as it would be
    """Start the stack once for all tests."""
    with on_duty(tmp_path_factory.mktemp("alerts"), **sink.variables()) as started:
        yield started


@pytest.fixture(scope="module")
def drill(duty):
    """Run the drills once."""
    duty.stack.api.set_paused("drill", is_paused=False)
    run_id = duty.trigger("drill")
    return duty.wait("drill", run_id), run_id


@pytest.fixture(scope="module")
def hung(duty, drill):  # noqa: ARG001 - after the drills, so that neither slows the other
    """Run the DAG that hangs, by hand and as a backfill at the same time; return both runs."""
    duty.stack.api.set_paused("drill_hang", is_paused=False)
    day = "2026-01-01T05:00:00Z"
    duty.request("POST", "/backfills", dag_id="drill_hang", from_date=day, to_date=day)
    duty.trigger("drill_hang")
    runs = duty.stack.api.runs("drill_hang")
    assert {run.run_type for run in runs} == {"backfill", "manual"}
    return {run.run_id: duty.wait("drill_hang", run.run_id) for run in runs}


def waits(tries):
    """Return the seconds between the attempts."""
    moments = [
        (datetime.fromisoformat(t["start_date"]), datetime.fromisoformat(t["end_date"]))
        for t in tries
    ]
    return [(after[0] - before[1]).total_seconds() for before, after in pairwise(moments)]


@pytest.mark.parametrize(
    ("task_id", "factors"),
    [
        ("outside", [1, 2, 4]),
        ("outage", [1, 2, 4]),
        ("data", [1]),
        ("verdict", []),
        ("killed", [1]),
        ("slow_query", [1]),
        ("stuck_native", []),
    ],
)
def test_retries_wait_what_their_class_says(duty, drill, task_id, factors) -> None:
    """2^n times the base; a death that no policy sees waits as well, up to Airflow's own jitter."""
    found = waits(duty.tries("drill", drill[1], task_id))
    assert len(found) == len(factors)
    for seconds, factor in zip(found, factors, strict=True):
        assert factor * BASE <= seconds < 2 * factor * BASE + 3


def test_the_run_and_what_depends_fail_and_nothing_else(duty, drill) -> None:
    run, run_id = drill
    states = duty.states("drill", run_id)
    assert run.state == "failed"
    assert (states["behind"], states["fine"]) == ("upstream_failed", "success")
    assert {states[name] for name in ("outside", "killed", "slow_query")} == {"failed"}


def test_native_code_is_stopped_at_its_timeout(duty, drill) -> None:
    """DuckDB by SIGINT before the timeout is over; what ignores signals within the grace."""
    for task_id, seconds in (("slow_query", 5.0), ("stuck_native", 0.5 + 10.0 + 5.0)):
        first = duty.tries("drill", drill[1], task_id)[0]
        words = ("--run-id", drill[1], "--task", task_id, "--text", "interrupting", "--json")
        lines = [json.loads(line) for line in duty.command("logs", *words)[1].splitlines()]
        told = min(datetime.fromisoformat(line["timestamp"]) for line in lines)
        assert (datetime.fromisoformat(first["end_date"]) - told).total_seconds() < seconds


@pytest.fixture(scope="module")
def late(duty):
    """Run the drill of the sensor for two hours whose logs still grow; only the first one ends."""
    duty.stack.api.set_paused("drill_wait", is_paused=False)
    runs = {}
    for hour in (4, 8):
        folder = duty.stack.layout.root / f"sources/api_logs/dt=2026-01-01/hour={hour:02}"
        folder.mkdir(parents=True)
        (folder / "api.jsonl").touch()
        tomorrow = time.time() + 86_400
        os.utime(folder / "api.jsonl", (tomorrow, tomorrow))
        bounds = [f"2026-01-01T{bound:02}:00:00Z" for bound in (hour, hour + 1)]
        conf = dict(zip(("window_start", "window_end"), bounds, strict=True))
        runs[folder] = duty.trigger("drill_wait", **conf)
    return runs


def test_an_hour_that_is_not_complete_is_waited_for_in_the_triggerer(duty, late) -> None:
    """The task is deferred, so it holds no worker; once the log's writer is done it succeeds."""
    folder, run_id = next(iter(late.items()))
    deadline = time.monotonic() + WAIT
    while duty.states("drill_wait", run_id) != {"wait_for_api_logs": "deferred"}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (folder / "_SUCCESS").touch()
    assert duty.wait("drill_wait", run_id).state == "success"
    assert len(duty.tries("drill_wait", run_id, "wait_for_api_logs")) == 1


def test_a_source_that_stays_late_is_named_and_not_waited_for_again(duty, late) -> None:
    """Its wait is over: the hour fails at once and says for which source."""
    *_, run_id = late.values()
    assert duty.wait("drill_wait", run_id).state == "failed"
    (only,) = duty.tries("drill_wait", run_id, "wait_for_api_logs")
    assert only["operator"] == "SourceSensor"
    text = duty.slack.wait_for("wait_for_api_logs failed", run_id)
    for words in ("SourceLateError", "all of api_logs until 2026-01-01T09", "1 files, quiet for -"):
        assert words in text


def test_each_failure_is_told_once_on_both_channels(duty, drill) -> None:
    """The killed ones too, although their own process could not say a word."""
    for task_id in DRILLS:
        text = duty.slack.wait_for(f"{task_id} failed")
        duty.mail.wait_for(f"{task_id} failed")
        assert "What to do" in text
        assert "correlation id" in text
        assert len(duty.slack.find(f"{task_id} failed", drill[1])) == 1
    for task_id in ("killed", "stuck_native"):
        assert "sudden death" in duty.slack.find(f"{task_id} failed")[0][1]
    assert "SourceUnavailableError" in duty.slack.find("outside failed")[0][1]


def test_a_late_run_is_told_while_it_runs_and_once(duty, drill) -> None:
    duty.slack.wait_for("is late", drill[1])
    ((told, _),) = duty.slack.find("is late", drill[1])
    assert told < drill[0].end_at.timestamp()


def test_clearing_a_task_starts_its_retries_anew(duty, drill) -> None:
    """Tried twice by its class, then twice again, with the first wait both times."""
    assert duty.clear("drill", drill[1], "data").state == "failed"
    before, _, after = waits(duty.tries("drill", drill[1], "data"))
    assert BASE <= before < BASE + 3
    assert BASE <= after < BASE + 3


def test_what_stays_failed_after_a_clearing_is_told_together(duty, drill) -> None:
    """The others were told before; the cleared one has told of itself again."""
    text = duty.slack.wait_for("the run failed again", drill[1])
    for task_id in DRILLS:
        is_cleared = task_id == "data"
        assert (task_id in text) is not is_cleared
        assert len(duty.slack.find(f"{task_id} failed", drill[1])) == 1 + is_cleared


def deadline_of(duty, dag_id, run_id):
    """Return what the UI knows of a run's deadline."""
    path = f"/ui/dags/{dag_id}/dagRuns/{run_id}/deadlines"
    (found,) = duty.stack.api._client.get(path).json()["deadlines"]
    return found


def test_a_run_is_cleared_before_its_deadline(duty) -> None:
    """Airflow moves the deadline along (it could not if its interval were a timedelta)."""
    duty.stack.api.set_paused("drill_again", is_paused=False)
    run_id = duty.trigger("drill_again")
    assert duty.wait("drill_again", run_id).state == "failed"
    first = deadline_of(duty, "drill_again", run_id)
    assert duty.clear("drill_again", run_id, "at_once").state == "failed"
    assert len(duty.tries("drill_again", run_id, "at_once")) == 2
    moved = deadline_of(duty, "drill_again", run_id)
    assert not moved["missed"]
    assert moved["deadline_time"] > first["deadline_time"]


def test_a_run_that_was_over_in_time_is_never_late(duty) -> None:
    """Airflow forgets no deadline of a run that failed early, or that a person marked as done."""
    duty.stack.api.set_paused("drill_over", is_paused=False)
    failed = duty.trigger("drill_over", fails=True)
    marked = duty.trigger("drill_over", fails=False)
    duty.request("PATCH", f"/dags/drill_over/dagRuns/{marked}", state="success")
    assert duty.wait("drill_over", failed).state == "failed"
    deadline = time.monotonic() + 60
    while not all(deadline_of(duty, "drill_over", run_id)["missed"] for run_id in (failed, marked)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    hung = duty.trigger("drill_over", fails=False)  # told after those would have been
    duty.slack.wait_for("is late", hung)
    duty.request("PATCH", f"/dags/drill_over/dagRuns/{hung}", state="failed")
    for run_id in (failed, marked):
        assert not duty.slack.find("is late", run_id)


@pytest.fixture(scope="module")
def lost(duty):
    """Run the tasks that kill their supervisors; return the run's id."""
    for dag_id in ("drill_lost", "drill_again"):
        duty.stack.api.set_paused(dag_id, is_paused=False)
    run_id = duty.trigger("drill_lost")
    assert duty.wait("drill_lost", run_id).state == "failed"
    return run_id


@pytest.mark.long
def test_a_lost_heartbeat_is_told_once(duty, lost) -> None:
    """The supervisor was killed: the scheduler ends the task, and the DAG processor may tell it."""
    duty.slack.wait_for("lost failed", lost)
    time.sleep(10.0)  # another message would have come by then
    assert len(duty.slack.find("lost failed", lost)) == 1
    assert duty.states("drill_lost", lost)["lost_once"] == "success"
    assert not duty.slack.find("lost_once failed", lost)  # it was tried again
    assert duty.wait("drill_again", duty.trigger("drill_again")).state == "failed"  # work goes on


@pytest.mark.long
@needs_prometheus
def test_a_lost_worker_fires_its_alert(lost, watch) -> None:  # noqa: ARG001 - after it
    watch.ask('last_over_time(ALERTS{alertname="WorkerLost", alertstate="firing"}[1h])')


def test_a_run_that_hangs_is_ended_and_told(duty, hung) -> None:
    """`dagrun_timeout` fails the run and ends its task; the message says so once."""
    for run_id, run in hung.items():
        assert run.state == "failed"
        assert (run.end_at - run.start_at).total_seconds() < 2 * DEADLINE + 5
        text = duty.slack.wait_for("the whole run failed", run_id)
        assert "TimeoutError" in text
        assert len(duty.slack.find("the whole run failed", run_id)) == 1
        assert duty.states("drill_hang", run_id) == {"hang": "skipped"}


def test_a_backfill_misses_its_deadline_in_silence(duty, hung) -> None:
    """It is queued with all its hours at once; a run by hand, at the same time, is told."""
    for run_id, run in hung.items():
        assert deadline_of(duty, "drill_hang", run_id)["missed"]
        assert len(duty.slack.find("is late", run_id)) == (run.run_type == "manual")


def sow_corpus(duty):
    """Put secrets and personal data into the sources' rows, and into a line that is no JSON."""
    texts = list(CORPUS)
    with psycopg.connect(duty.stack.app_db_uri, autocommit=True) as database:
        for table, columns in (
            ("generations", ("user_id", "session_id")),
            ("evaluations", ("judge", "behaviour_id")),
        ):
            chosen = f"(%s::text[])[1 + abs(hashtext(ctid::text)) %% {len(texts)}]"
            changes = ", ".join(f"{column} = {chosen}" for column in columns)
            database.execute(f"update app.{table} set {changes}", [texts] * len(columns))
    log = max((duty.stack.layout.root / "sources/api_logs").rglob("*.jsonl"))  # not a drill's
    with log.open("a") as file:
        file.write(f"{{not json {' '.join(CORPUS)}\n")


@pytest.fixture(scope="module")
def refused(duty):
    """Let the hour run with a bad batch, while Slack is down; return the run."""
    sow_corpus(duty)
    duty.slack.is_down = True  # what is told meanwhile waits in the outbox
    with psycopg.connect(duty.stack.app_db_uri, autocommit=True) as database:
        database.execute("alter table app.evaluations add column was int")
        database.execute("update app.evaluations set was = iterations, iterations = -1")
    duty.stack.api.set_paused(DAG_ID, is_paused=False)
    deadline = time.monotonic() + 60
    while not (runs := duty.stack.api.runs(DAG_ID)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    try:
        run = duty.wait(DAG_ID, runs[0].run_id)
        duty.mail.wait_for("bronze.evaluations is refused")
    finally:
        duty.slack.is_down = False
    return run


def test_a_bad_batch_stops_its_own_branch(duty, refused) -> None:
    """The alert names rule, table, counts and version."""
    assert refused.state == "failed"
    states = duty.states(DAG_ID, refused.run_id)
    assert states["gate_bronze_evaluations"] == "failed"
    failed = {name for name, state in states.items() if state == "failed"}
    assert failed == {"gate_bronze_evaluations"}
    assert states["gate_gold_fct_generations"] == "success"
    assert states["gate_gold_fct_api_requests"] == "success"
    assert states["gate_gold_fct_evaluations"] == "upstream_failed"

    mail = duty.mail.wait_for("bronze.evaluations is refused")
    for words in ("broken rules", "no version yet", "gold.fct_evaluations", "What to do"):
        assert words in mail
    assert not duty.slack.find("bronze.evaluations is refused")


def test_the_health_page_shows_what_the_scheduler_and_the_tasks_log_say(duty, refused) -> None:
    """Why it failed, as Airflow logged it, and what waits for it."""
    pages = {
        path: html.unescape(duty.stack.api._client.get(f"/chimera{path}").text)
        for path in ("/", "/table/bronze.evaluations", f"/run/{refused.run_id}")
    }
    assert "GateFailedError: Expected no broken critical rule" in pages[f"/run/{refused.run_id}"]
    for path in ("/", "/table/bronze.evaluations"):
        assert "Its gate refused" in pages[path]
        assert f"accept bronze.evaluations --run '{refused.run_id}'" in pages[path]
    waiting = pages["/"].partition("What waits for these")[2].partition("</table>")[0]
    assert "gold.fct_evaluations" in waiting
    assert "gold.fct_generations" not in waiting


def triggers(duty, dag_id):
    """Return the asset events that started each run of a DAG, and when its task began."""
    found = []
    for run in duty.stack.api.runs(dag_id):
        path = f"/dags/{dag_id}/dagRuns/{run.run_id}/upstreamAssetEvents"
        (event,) = duty.request("GET", path)["asset_events"]
        duty.wait(dag_id, run.run_id)
        (task,) = duty.stack.api.tasks(dag_id, run.run_id)
        found.append((event, task.start_at))
    return found


def test_a_readers_dag_starts_with_its_tables_commit(duty, refused) -> None:
    """Within seconds, with what was committed; none of a table whose gate refused, or never ran."""
    ((event, began),) = triggers(duty, "reads_fct_generations")
    tasks = {task.task_id: task for task in duty.stack.api.tasks(DAG_ID, refused.run_id)}
    assert event["source_task_id"] == "gate_gold_fct_generations"
    assert (began - tasks["gate_gold_fct_generations"].end_at).total_seconds() < EVENT_SECONDS
    said = event["extra"]
    history = DeltaTable(duty.stack.layout.root / "lake/gold/fct_generations").history()
    (commit,) = (each for each in history if each["version"] == said["version"])
    assert said["rows"] > 0
    assert said["run_id"] == commit["run_id"] == refused.run_id
    assert said["correlation_id"] == commit["correlation_id"]
    assert datetime.fromisoformat(said["window_start"]) == refused.window_start
    assert triggers(duty, "reads_fct_evaluations") == []


@needs_prometheus
def test_prometheus_has_seen_it_all(duty, hung, refused, watch) -> None:  # noqa: ARG001 - all that went wrong
    """Its alerts fire on what a real scheduler sends: on first failures and deaths too."""

    def fired(alert, label, *awaited):
        """Return what an alert has fired for, once it has for what is awaited."""
        alerts = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
        for value in awaited:
            watch.ask(f'last_over_time({alerts.removesuffix("}")}, {label}="{value}"}}[1h])')
        return {each["metric"][label] for each in watch.ask(f"last_over_time({alerts}[1h])")}

    raised = ("outside", "outage", "data", "verdict", "gate_bronze_evaluations")
    tasks = fired("TaskFailed", "task_id", *raised)
    assert not {"killed", "stuck_native", "hang"} & tasks  # who is killed says nothing
    fired("RunFailed", "dag_id", "drill", "drill_hang", DAG_ID)
    assert fired("GateFailed", "table", "bronze.evaluations") == {"bronze.evaluations"}
    assert fired("RunLate", "severity") == {"page"}
    assert fired("MessagesWaiting", "severity") == {"ticket"}  # Slack was down when the run ended
    (late,) = watch.ask("chimera_runs_late_total")
    assert int(late["value"][1]) == len(duty.mail.find("is late"))  # no backfill
    assert fired("CallbackFailed", "dag_id") == {"drill_hang"}
    assert not watch.unwell()


def last_commit(duty, table):
    """Return what the history says of a table's newest commit."""
    return DeltaTable(duty.stack.layout.root / "lake" / table.replace(".", "/")).history(1)[0]


def test_a_person_accepts_the_batch_and_what_reads_it_goes_on(duty, refused) -> None:
    """The files that were refused are published; who and why stands in the commit."""
    run_id, gate = refused.run_id, "gate_bronze_evaluations"
    words = ("accept", "bronze.evaluations", "--run", run_id, "--reason", "a bonus round")
    assert duty.command(*words)[0] == 0
    # The outbox leaves alone for half a minute what it has just tried; whatever is told then takes
    # it along.
    ((refused_at, _),) = duty.mail.find("bronze.evaluations is refused")
    time.sleep(max(0.0, refused_at + 31 - time.time()))
    hour = refused.window_start.isoformat()
    clear = ("airflow", "tasks", "clear", DAG_ID, "--task-regex", gate, "--downstream")
    clear += ("--only-failed", "--yes", "--start-date", hour, "--end-date", hour)
    assert duty.command(*clear)[0] == 0
    assert duty.wait(DAG_ID, run_id).state == "success"
    duty.slack.wait_for("bronze.evaluations is refused", "no version yet")
    assert duty.states(DAG_ID, run_id)["gate_gold_fct_evaluations"] == "success"
    accepted = last_commit(duty, "bronze.evaluations")
    assert (accepted["run_id"], accepted["accepted_reason"]) == (run_id, "a bonus round")
    ((event, _),) = triggers(duty, "reads_fct_evaluations")
    assert event["extra"]["run_id"] == run_id
    duty.slack.wait_for("has recovered and is published", run_id)
    duty.slack.wait_for("dead letters")
    assert len(duty.slack.find("is late", run_id)) <= 1


def test_a_model_is_retried_until_its_parents_files_are_there(duty, refused) -> None:
    """Cosmos' one exception is told apart by what dbt caught; the attempts' logs hold no other."""
    model, lake = "build_dim_models", duty.stack.layout.root / "lake"
    parent = DeltaTable(lake / "silver/stg_app__models")
    (path, *_) = map(Path, parent.file_uris())
    hidden = path.rename(lake / "hidden.parquet")
    tries = len(duty.tries(DAG_ID, refused.run_id, model))
    duty.reset(DAG_ID, refused.run_id, model)
    deadline = time.monotonic() + 60
    try:
        while duty.states(DAG_ID, refused.run_id)[model] != "up_for_retry":
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        hidden.rename(path)
    duty.wait(DAG_ID, refused.run_id)
    assert duty.states(DAG_ID, refused.run_id)[model] == "success"
    assert tries + 2 <= len(duty.tries(DAG_ID, refused.run_id, model)) <= tries + 4
    words = ("--run-id", refused.run_id, "--task", "build_dim_models$", "--level", "error")
    told = duty.command("logs", *words)[1]
    assert "storage that gives back the lake's files" in told
    assert "RecursionError" not in told


@pytest.mark.long
def test_an_hour_loses_rows_only_if_a_person_says_so(duty, refused) -> None:
    """And a full refresh by the same form builds each model anew, from the mended rows too."""
    run = refused
    root = duty.stack.layout.root / "sources/api_logs"
    log = root / hour_path(run.window_start) / "api.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: len(lines) // 2]))
    rest = sum(parse_line(line) is not None for line in lines[: len(lines) // 2])
    tasks = ["extract_api_logs", "gate_bronze_api_logs"]
    duty.clear(DAG_ID, run.run_id, tasks[0], task_ids=tasks)  # the leaves, which decide, stay
    assert duty.states(DAG_ID, run.run_id)[tasks[1]] == "failed"
    assert "ShrinkError" in duty.slack.wait_for("gate_bronze_api_logs failed", run.run_id)

    with psycopg.connect(duty.stack.app_db_uri, autocommit=True) as database:
        database.execute("update app.evaluations set iterations = was")
    bounds = {"window_start": run.window_start, "window_end": run.window_start + HOUR}
    conf = {name: moment.isoformat() for name, moment in bounds.items()}
    again = duty.trigger(DAG_ID, **conf, allow_shrink=True, full_refresh=True)
    assert duty.wait(DAG_ID, again).state == "success"
    lake = duty.stack.layout.root / "lake"
    for name in ("bronze.api_logs", "gold.fct_api_requests"):
        rows = DeltaTable(lake / name.replace(".", "/")).to_pyarrow_dataset().count_rows()
        assert (name, rows) == (name, rest)
    for name in ("gold.fct_generations", "gold.fct_evaluations", "gold.agg_usage_daily"):
        commit = last_commit(duty, name)
        assert (name, commit["run_id"], commit[TOUCHED]) == (name, again, "*")
    text = duty.slack.wait_for("has recovered and is published", again)
    for words in ("read", "refused", "gates", "passed"):
        assert words in text


@pytest.mark.parametrize(
    "conf",
    [
        {"sources": ["bronze.models'; drop table app.models; --"]},
        {"sources": "{{ 7 * 7 }}"},
        {"full_refresh": "$(touch /tmp/hostile)"},
        {"window_start": "2026-03-01T09:00:00Z' or '1'='1"},
    ],
)
def test_hostile_params_are_refused_before_a_run_exists(duty, conf) -> None:
    before = duty.stack.api.runs(DAG_ID)
    with pytest.raises(TerminalError, match=r"400: .*[Pp]aram") as error:
        duty.trigger(DAG_ID, **conf)
    assert next(iter(conf)) in error.value.came
    assert duty.stack.api.runs(DAG_ID) == before


def test_a_viewer_sees_and_changes_nothing(duty, refused) -> None:
    """The second login that `make up` prints."""
    layout = duty.stack.layout
    viewer = AirflowApi(duty.stack.plan.url, "viewer", keep_passwords(layout)["viewer"])
    assert viewer.runs(DAG_ID) == duty.stack.api.runs(DAG_ID)
    with pytest.raises(TerminalError, match="403"):
        viewer.set_paused(DAG_ID, is_paused=True)
    with pytest.raises(TerminalError, match="403"):
        viewer.clear(DAG_ID, refused.run_id)
    viewer.close()


def test_stopped_publishing_fails_a_gate_at_once_until_it_is_resumed(duty) -> None:
    """One try, a message with who and why; what was published stays; then it goes on."""
    run_id, gate = duty.stack.api.runs(DAG_ID)[0].run_id, "gate_bronze_models"
    tries = len(duty.tries(DAG_ID, run_id, gate))
    assert duty.command("stop-publishing", "--reason", "prices are wrong")[0] == 0
    duty.clear(DAG_ID, run_id, gate)
    assert duty.states(DAG_ID, run_id)[gate] == "failed"
    assert len(duty.tries(DAG_ID, run_id, gate)) == tries + 1
    text = duty.slack.wait_for("PublishingStoppedError", run_id)
    for words in ("prices are wrong", "live version", "resume-publishing"):
        assert words in text
    assert duty.command("resume-publishing", "--reason", "prices are right")[0] == 0
    duty.clear(DAG_ID, run_id, gate)
    assert duty.states(DAG_ID, run_id)[gate] == "success"


def test_maintenance_tells_what_it_would_remove_and_then_removes_it(duty) -> None:
    """The log of a run of long ago: named by the dry run, gone after the real one."""
    old = duty.stack.layout.task_logs / "dag_id=gone" / "run_id=1" / "attempt=1.log"
    old.parent.mkdir(parents=True)
    old.write_text("{}\n")
    os.utime(old, (0, 0))
    duty.stack.api.set_paused("chimera_maintenance", is_paused=False)
    told = []
    for dry_run in (True, False):
        run_id = duty.trigger("chimera_maintenance", dry_run=dry_run)
        assert duty.wait("chimera_maintenance", run_id).state == "success"
        path = f"/dags/chimera_maintenance/dagRuns/{run_id}/taskInstances/clean_logs"
        told.append(duty.request("GET", f"{path}/xcomEntries/return_value")["value"])
        assert old.exists() is dry_run
    assert told[0] == told[1]
    assert "'count': 1" in str(told[0])
    assert not old.parents[1].exists()


def test_waiting_letters_are_replayed_and_published_once(duty) -> None:
    """One is good by today's rules; the other waits for its next attempt."""
    window = Window.of_hour(datetime(2026, 1, 5, 8, tzinfo=UTC))
    with lake_of(duty.settings.state_dir):
        good, name = refuse_generation(window)
        bad, other = refuse_generation(window, status="unknown")
    duty.stack.api.set_paused("chimera_dead_letter_replay", is_paused=False)
    told = []
    for _ in range(2):
        run_id = duty.trigger("chimera_dead_letter_replay", letter_ids=[good, bad])
        assert duty.wait("chimera_dead_letter_replay", run_id).state == "success"
        path = f"/dags/chimera_dead_letter_replay/dagRuns/{run_id}/taskInstances/replay_letters"
        told.append(duty.request("GET", f"{path}/xcomEntries/return_value")["value"])
    assert [ast.literal_eval(str(found)) for found in told] == [
        {"letters": 2, "published": 1, "parked": 0},
        {"letters": 1, "published": 0, "parked": 0},
    ]
    with lake_of(duty.settings.state_dir):
        assert published([name, other]) == [name]
        assert states_of([good, bad]) == [("published", 1, ""), ("waiting", 2, "in_set_status")]


def test_secrets_and_personal_data_stay_in_rows_and_payloads(duty) -> None:
    """Not in XCom, rendered templates or anything else of Airflow's database, logs or messages."""
    with psycopg.connect(duty.stack._postgres.uri(AIRFLOW_DATABASE)) as database:
        query = "select table_name from information_schema.tables where table_schema = 'public'"
        tables = [name for (name,) in database.execute(query)]
        said = {
            name: str(database.execute(f'select t::text from "{name}" as t').fetchall())
            for name in tables
        }
    assert {"xcom", "rendered_task_instance_fields", "dag_run", "log"} <= set(said)
    assert "bronze.generations" in said["xcom"]
    for path in duty.stack.layout.logs.rglob("*.log"):
        said[str(path)] = path.read_text(errors="replace")
    assert any("extract_generations" in name for name in said)
    for name, inbox in (("slack", duty.slack), ("mail", duty.mail)):
        assert inbox.taken
        said[name] = str(inbox.taken)
    letters = duty.command("dead-letters", "list", "--limit", "10000")[1]
    assert "bronze.api_logs" in letters
    said["letters"] = letters
    for text in (*CORPUS, "s3cr3t"):
        assert not [name for name, content in said.items() if text in content], text
