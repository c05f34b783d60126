"""What the generated hour left for whoever looks later: logs, origins of rows, metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import duckdb
import pytest

from include.chimera.paths import PROJECT
from tests.e2e.duty import on_duty
from tests.e2e.statsd import parse
from tests.e2e.watch import watching
from tests.integration.object_store import BUCKET
from tests.integration.prometheus import needs_prometheus

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import CommandResult
    from tests.integration.object_store import Store

pytestmark = pytest.mark.e2e


def chimera(result: CommandResult, *arguments: str, **variables: str) -> list[dict]:
    """Run a command about a finished run; return its JSON lines."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CHIMERA_")}  # noqa: TID251  # a child inherits
    done = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-m", "include.chimera", *arguments, "--json"],
        cwd=PROJECT,
        env={**inherited, "CHIMERA_STATE_DIR": str(result.state), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr or "no log line matches" in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def lines(generated_hour: CommandResult) -> list[dict]:
    """Return all lines of the run, found by its correlation id."""
    (hour,) = generated_hour.hours
    asked = ("--correlation-id", hour["correlation_id"], "--limit", "100000")
    return chimera(generated_hour, "logs", *asked)


def test_no_line_shows_how_libraries_read_their_configuration(generated_hour, lines) -> None:
    """Cosmos and Great Expectations told it in each task's log, eleven lines of twenty."""
    del generated_hour
    noise = {
        (line["logger"], line["event"])
        for line in lines
        if str(line["logger"]).startswith(("cosmos", "great_expectations"))
        and line["level"] in {"debug", "info"}
    }
    assert not noise


def test_no_line_shows_an_object_as_python_writes_it(lines) -> None:
    shown = [line["event"] for line in lines if re.search(r"\b[A-Z]\w+\(\w+=", str(line["event"]))]
    assert not shown


def test_each_line_of_our_own_and_of_dbt_says_whose_it_is(
    generated_hour: CommandResult, lines: list[dict]
) -> None:
    (hour,) = generated_hour.hours
    mine = [x for x in lines if x.get("logger", "").startswith("include.chimera")]
    dbt = [x for x in lines if x.get("logger") == "dbt"]
    assert len(mine) > 30
    assert len(dbt) > 100
    for line in (*mine, *dbt):
        assert line["correlation_id"] == hour["correlation_id"], line["event"]
        assert line["run_id"] == hour["run_id"]
        assert [line["window_start"], line["window_end"]] == hour["window"]
        assert line["source"]
    assert {x["source"] for x in mine} >= {"generations", "gold_fct_generations"}
    assert all(x["invocation_id"] and x["dbt_event"] for x in dbt)
    built = [x for x in dbt if x.get("dbt_node") == "model.chimera.fct_generations"]
    assert {x["dbt_status"] for x in built} >= {"success"}


def test_search_narrows_by_task_and_level(generated_hour: CommandResult, lines: list[dict]) -> None:
    (hour,) = generated_hour.hours
    asked = ("--correlation-id", hour["correlation_id"])
    found = chimera(generated_hour, "logs", *asked, "--task", "gate_bronze_models$")
    assert {line["task_id"] for line in found if "task_id" in line} == {"gate_bronze_models"}
    warned = chimera(generated_hour, "logs", *asked, "--level", "warning")
    assert len(warned) == sum(line["level"] in {"warning", "error", "critical"} for line in lines)
    assert not chimera(generated_hour, "logs", "--correlation-id", "no-such-run")


def logs_in(store: Store, root: str) -> dict[str, str]:
    """Return the variables that make Airflow put task logs into the bucket, and only there."""
    return {
        **store.variables,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": root,
        "AIRFLOW__LOGGING__DELETE_LOCAL_LOGS": "True",
    }


def test_logs_in_an_object_store_are_searched_the_same_way(
    generated_hour: CommandResult, lines: list[dict], tmp_path: Path, object_store: Store
) -> None:
    """Airflow's own remote logging, configured by variables alone, sends them there."""
    (hour,) = generated_hour.hours
    shutil.copytree(generated_hour.state / "logs" / "tasks", tmp_path / "tasks")
    upload = (
        "from pathlib import Path\n"
        "from airflow.config_templates.airflow_local_settings import REMOTE_TASK_LOG\n"
        "root = Path(REMOTE_TASK_LOG.base_log_folder)\n"
        "for log in list(root.rglob('*.log')):\n"
        "    REMOTE_TASK_LOG.upload(log.relative_to(root), None)\n"
    )
    root = f"s3://{BUCKET}/searched"
    variables = {
        **logs_in(object_store, root),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "tasks"),
    }
    sent = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", upload],
        env={**os.environ, **variables},  # noqa: TID251 - a child inherits
        capture_output=True,
        text=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    assert not list((tmp_path / "tasks").rglob("*.log"))
    asked = ("--correlation-id", hour["correlation_id"], "--limit", "100000")
    found = chimera(generated_hour, "logs", *asked, "--root", root, **variables)
    key = [(line["timestamp"], line["event"]) for line in lines]
    assert sorted((line["timestamp"], line["event"]) for line in found) == sorted(key)


@pytest.mark.long
def test_a_failed_tasks_log_goes_to_the_object_store_with_its_retries(
    tmp_path: Path, object_store: Store
) -> None:
    """On a scheduler: each attempt's lines arrive, and the machine keeps none."""
    root = f"s3://{BUCKET}/failed"
    remote = {**logs_in(object_store, root), "CHIMERA_TASK_LOGS_ROOT": root}
    with on_duty(tmp_path, **remote) as duty:
        duty.stack.api.set_paused("drill_again", is_paused=False)
        run_id = duty.trigger("drill_again")
        assert duty.wait("drill_again", run_id).state == "failed"
        duty.clear("drill_again", run_id, "at_once")
        # A task's supervisor sends its log when the run may be over already.
        deadline = time.monotonic() + 60
        while kept := list(duty.stack.layout.task_logs.rglob("*.log")):
            assert time.monotonic() < deadline, kept
            time.sleep(0.2)
        asked = ("logs", "--run-id", run_id, "--level", "error", "--json")
        code, output = duty.command(*asked, **remote)
    assert code == 0, output
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert events.count("Task failed with exception") == 2


def test_row_of_a_mart_is_traced_to_the_source_line(generated_hour: CommandResult) -> None:
    """Through each layer's commit, down to a line that stands in the API's log at that offset."""
    (hour,) = generated_hour.hours
    (fact,) = chimera(
        generated_hour, "trace", "gold.fct_api_requests", "--where", "status_code >= 500",
        "--limit", "1",
    )  # fmt: skip
    (staged,) = fact["made_from"]
    (raw,) = staged["made_from"]
    chain = [fact, staged, raw]
    assert [origin["table"] for origin in chain] == [
        "gold.fct_api_requests", "silver.stg_logs__api_requests", "bronze.api_logs",
    ]  # fmt: skip
    for origin in chain:
        assert origin["commit"]["correlation_id"] == hour["correlation_id"]
        assert (generated_hour.lake / origin["table"].replace(".", "/") / origin["file"]).exists()
    assert fact["commit"]["invocation_id"] != staged["commit"]["invocation_id"]
    assert fact["parents"] == {"silver.stg_logs__api_requests": staged["version"]}
    log = generated_hour.state / "sources" / "api_logs" / raw["key"]["_file"]
    with log.open("rb") as file:
        file.seek(int(raw["key"]["_offset"]))
        line = json.loads(file.readline())
    with duckdb.connect() as connection:
        table = generated_hour.lake / "gold" / "fct_api_requests"
        row = connection.execute(
            f"select request_id, status_code from read_parquet('{table}/*/*.parquet') "
            f"where log_line_id = '{fact['key']['log_line_id']}'"
        ).fetchone()
    assert row == (line["request_id"], line["status_code"])
    assert line["status_code"] >= 500


def test_metrics_that_the_run_sent_are_its_facts(generated_hour: CommandResult) -> None:
    (hour,) = generated_hour.hours
    seen = {
        (name.removeprefix("airflow."), tags.get("table")): value
        for name, tags, value, _ in filter(None, map(parse, generated_hour.statsd))
    }
    for table in hour["pipeline"]["tables"]:
        for count in ("rows_read", "rows_published", "rows_refused", "rows_duplicate"):
            if table[count] is not None:
                assert seen[f"chimera_{count}_total", table["table"]] == table[count]
        assert seen["chimera_table_rows", table["table"]] == table["rows_total"]
    assert seen["chimera_dead_letters_waiting", "bronze.api_logs"] == 3
    assert 0.99 < seen["chimera_gate_pass_ratio", "bronze.api_logs"] < 1
    files = generated_hour.lake.glob("gold/fct_generations/*/*.parquet")
    size = sum(file.stat().st_size for file in files)
    assert seen["chimera_table_bytes", "gold.fct_generations"] == size


@needs_prometheus
def test_prometheus_scrapes_them_and_its_rules_look_at_them(
    generated_hour: CommandResult, tmp_path: Path
) -> None:
    """A real Prometheus with our rules: the one fault of a day-old hour is what it sees."""
    with watching(tmp_path, lambda: list(generated_hour.statsd)) as watch:
        (read,) = watch.ask('chimera_rows_read_total{table="bronze.generations"}')
        assert float(read["value"][1]) > 0
        seconds = watch.ask('airflow_task_duration_seconds_sum{dag_id="chimera_etl_hourly"}')
        (hour,) = generated_hour.hours
        assert {row["metric"]["task_id"] for row in seconds} <= {
            task["task_id"] for task in hour["tasks"]
        }
        assert len(seconds) > 30
        assert watch.ask("airflow_scheduler_heartbeat_total")
        (stale, *_) = watch.ask('ALERTS{alertname="TableStale"}')
        assert stale["metric"]["alertstate"] == "pending"
        assert not watch.unwell()
