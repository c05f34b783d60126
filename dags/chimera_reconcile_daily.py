"""Daily search for rows deleted at the source.

**Purpose.** A row that the application deletes leaves no trace that an hourly window could see. So
compare all keys once a day, and add a tombstone for each row that is gone.

**Schedule.** Daily at 03:00 UTC, without catch-up, because a comparison shows only the present.

**Inputs, outputs.** {tables}; their bronze tables, through their gates. The next hourly
run carries the deletions into the facts.

**On failure.** Nothing changes; the next day finds the same deletions. If more than a tenth of a
table is gone at once, the task refuses: more likely it reads the wrong database.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.flow.connections import APP_DB
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.gate_operator import gate_task
from include.chimera.flow.retry_policy import GATE, minutes_of
from include.chimera.flow.tasks import extract_deletions
from include.chimera.profiles.chosen import intakes
from include.chimera.settings import get_settings

MUTABLE = [
    intake for intake in intakes() if intake.source == APP_DB and intake.contract.keeps_deletions
]

with DAG(
    dag_id="chimera_reconcile_daily",
    doc_md=__doc__.replace("{tables}", ", ".join(intake.reader.shown for intake in MUTABLE)),
    description="Find rows that were deleted at the source",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=get_settings().start_date,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    default_args={"owner": "data-platform"},
    tags=["chimera"],
) as dag:
    for intake in MUTABLE:
        contract = intake.contract
        extract = extract_deletions.override(task_id=f"extract_deleted_{contract.table}")
        extract(contract.name) >> gate_task(contract.name, **GATE)
