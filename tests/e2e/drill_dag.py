"""Small tasks that fail in each way, under the pipeline's own policy, callbacks and deadline."""

import ctypes
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import duckdb
from airflow.sdk import DAG, Asset, task
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.errors import (
    BuildOutageError,
    ContractError,
    GateFailedError,
    SourceUnavailableError,
)
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.retry_policy import DBT, EXTRACT, deadline, minutes_of, task_arguments
from include.chimera.settings import get_settings
from plugins.source_sensor import SourceSensor

# What a team of readers would write: a DAG that runs when a table has a new version.
for table in ("fct_generations", "fct_evaluations"):
    with DAG(
        f"reads_{table}",
        schedule=[Asset(name=f"gold.{table}", uri=f"chimera://lake/gold/{table}")],
        is_paused_upon_creation=False,
    ):
        task(lambda: None, task_id="read")()

PARTS = {"expected": "a", "came": "b", "where": "c", "remedy": "d"}
QUICK = {**task_arguments(retries=1, minutes=4), "execution_timeout": timedelta(seconds=5)}

with DAG(
    "drill",
    schedule=None,
    on_failure_callback=tell_run_failure,
    dagrun_timeout=minutes_of(60),
) as drill:
    drill.deadline = deadline(drill)

    @task(**EXTRACT)
    def outside():
        raise SourceUnavailableError(**PARTS)

    @task(**DBT)
    def outage():
        raise BuildOutageError(**PARTS)

    @task(**EXTRACT)
    def data():
        raise ContractError(**PARTS)

    @task(**EXTRACT)
    def verdict():
        raise GateFailedError(**PARTS)

    @task(**QUICK)
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    @task(**QUICK)
    def slow_query():
        duckdb.sql(
            "select sum(a.range * b.range) from range(10000000) a, range(10000000) b"
        ).fetchall()

    @task(**{**QUICK, "retries": 0})
    def stuck_native():
        lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)

    @task(**EXTRACT)
    def fine():
        time.sleep(0.1)

    outside() >> fine.override(task_id="behind")()
    outage(), data(), verdict(), killed(), slow_query(), stuck_native(), fine()


with DAG("drill_again", schedule=None) as again:
    afterwards = deadline(again)
    afterwards.interval *= 100
    again.deadline = afterwards

    @task(**EXTRACT)
    def at_once():
        raise GateFailedError(**PARTS)

    at_once()


with DAG("drill_over", schedule=None, params={"fails": False}) as over:
    over.deadline = deadline(over)

    @task(**EXTRACT)
    def fail_or_hang(params):
        if params["fails"]:
            raise GateFailedError(**PARTS)
        time.sleep(600)

    fail_or_hang()


with DAG("drill_lost", schedule=None, on_failure_callback=tell_run_failure):

    @task(**{**QUICK, "retries": 0})
    def lost():
        os.kill(os.getppid(), signal.SIGKILL)  # the supervisor, which beats the heart
        time.sleep(600)

    @task(**{**QUICK, "execution_timeout": timedelta(seconds=600)})
    def lost_once(ti):
        if ti.try_number == 1:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)

    lost(), lost_once()


with DAG("drill_wait", schedule=None, max_active_runs=2):
    # It may wait for longer than its own process may take, as it does with the usual settings.
    quick = {**EXTRACT, "execution_timeout": timedelta(seconds=5)}
    tables = ["bronze.api_logs"]
    SourceSensor(task_id="wait_for_api_logs", source="api_logs", tables=tables, **quick)


def stumble(context):  # noqa: ARG001 - Airflow's signature
    """Fail as a callback with a fault does."""
    raise ValueError


with DAG(
    "drill_hang",
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    end_date=datetime(2026, 1, 2, tzinfo=UTC),  # long over: nothing is scheduled, backfills are
    catchup=False,
    on_failure_callback=[tell_run_failure, stumble],
    dagrun_timeout=timedelta(seconds=2 * get_settings().deadline_seconds),
) as hangs:
    hangs.deadline = deadline(hangs)

    @task(**EXTRACT)
    def hang():
        time.sleep(600)

    hang()
