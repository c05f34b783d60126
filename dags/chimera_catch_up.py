"""Catch-up of missed hours.

**Purpose.** Publish each hour that is due, without a person: after an outage of the scheduler, a
pause, a backfill ahead of the schedule, or a loss of the ledger's rows.

**Schedule.** Every five minutes; not paused at first, for it does nothing while
`chimera_etl_hourly` is. None where `CHIMERA_CATCH_UP_RUNS` is 0.

**How.** Missed is an hour that the ledger lacks, from the first one that was due
(`CHIMERA_START_DATE`, else that of the first scheduled run) to the one before the newest full hour,
which is the schedule's own. The oldest missed hours run as `catch_up__<hour>__<attempt>` of
`chimera_etl_hourly`, as long as fewer than `CHIMERA_CATCH_UP_RUNS` runs of it are unfinished.

**Not here.** An hour whose run failed at a task: a person was told, mends the cause and clears it.
An hour whose third run was interrupted.

**On failure.** Nothing is lost; the next run finds the same hours.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.flow.catch_up import CATCH_UP, choose_hours
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.doc_pages.task_pages import RUN_HOURS, page
from include.chimera.flow.retry_policy import minutes_of
from include.chimera.flow.run_context import HOURLY
from include.chimera.settings import get_settings

settings = get_settings()
LOOK = CronDataIntervalTimetable("*/5 * * * *", timezone="UTC")

with DAG(
    dag_id="chimera_catch_up",
    doc_md=page(__doc__, runbook="Hours are missing"),
    description="Run the hours that the schedule missed",
    schedule=LOOK if settings.catch_up_runs else None,
    is_paused_upon_creation=False,
    start_date=settings.start_date,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    default_args={"owner": "data-platform"},
    tags=["chimera"],
) as dag:
    TriggerDagRunOperator.partial(
        task_id="run_hours",
        doc_md=RUN_HOURS,
        trigger_dag_id=HOURLY,
        logical_date=None,  # the schedule's runs have the hours' own; else it is now
        skip_when_already_exists=True,  # by an attempt of this task that could not say so
        **CATCH_UP,
    ).expand_kwargs(choose_hours())
