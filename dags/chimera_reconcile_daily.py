"""Daily comparison of keys with the source.

**Purpose.** A row that the application deletes leaves no trace that an hourly window could see. So
compare all keys once a day, and add a tombstone for each row that is gone. A row that an
application stamps itself may arrive after its hour was read: where the profile says so, look for
keys that the lake lacks instead, and read their hours again.

**Schedule.** Daily at 03:00 UTC, without catch-up, because a comparison shows only the present.

**Inputs, outputs.** {tables}; their bronze tables, through their gates. The next hourly
run carries what was found into the facts.

**On failure.** Nothing changes; the next day finds the same. If more than a tenth of a
table is gone at once, the task refuses: more likely it reads the wrong database.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.doc_pages.task_pages import page
from include.chimera.flow.gate_operator import gate_task
from include.chimera.flow.retry_policy import GATE, minutes_of
from include.chimera.flow.tasks import compare_keys
from include.chimera.profiles.chosen import intakes
from include.chimera.settings import get_settings

COMPARED = [intake for intake in intakes() if intake.compared]

with DAG(
    dag_id="chimera_reconcile_daily",
    doc_md=page(
        __doc__.replace("{tables}", ", ".join(intake.reader.shown for intake in COMPARED)),
        runbook="A task failed",
    ),
    description="Find rows that were deleted at the source, or came late",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=get_settings().start_date,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    default_args={"owner": "data-platform"},
    tags=["chimera"],
) as dag:
    for intake in COMPARED:
        contract = intake.contract
        compare = compare_keys.override(task_id=f"extract_{intake.compared}_{contract.table}")
        compare(contract.name) >> gate_task(contract.name, **GATE)
