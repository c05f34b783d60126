"""Daily maintenance.

**Purpose.** Delete what would otherwise only grow: task logs, orphaned files in the lake,
payloads of dead letters, delivered alerts. Compact the operational tables, to which each run adds
files. Resend alerts that a channel did not take. Write GX's Data Docs.

**Schedule.** Daily at 04:00 UTC, without catch-up.

**Inputs, outputs.** Task logs on this machine (setting `log_days`), the lake (settings
`vacuum_hours`, `letter_days`). Each task returns what it removed. With the param `dry_run` it
returns what it would remove, and removes nothing.

**On failure.** Nothing is lost; the next day's run removes the same.

**Not here.** Airflow's own database, which tasks can't reach. See docs/adr/0012 and the runbook.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.doc_pages.task_pages import page
from include.chimera.flow.maintenance import build_data_docs, clean_logs, keep_outbox, maintain_lake
from include.chimera.flow.retry_policy import minutes_of
from include.chimera.settings import get_settings

with DAG(
    dag_id="chimera_maintenance",
    doc_md=page(__doc__, runbook="The disk fills up"),
    description="Remove old logs and what nothing in the lake refers to",
    schedule=CronDataIntervalTimetable("0 4 * * *", timezone="UTC"),
    start_date=get_settings().start_date,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    default_args={"owner": "data-platform"},
    params={
        "dry_run": Param(False, type="boolean", description="Only say what would be removed"),
    },
    tags=["chimera"],
) as dag:
    clean_logs()
    maintain_lake()
    keep_outbox()
    build_data_docs()
