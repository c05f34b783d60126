"""Try, from a worker, all that an hour needs.

**Purpose.** Say what a Deployment lacks, and what mends it, as `./chimera doctor`
does, where nobody can log in to the machine: connections, grants, clocks, Prometheus, the lake,
Slack and mail.

**Schedule.** None: triggered after a deployment. The param `send_test_message` sends each channel a
message.

**Inputs, outputs.** The task's log has a line for each check. Nothing is kept: the lake gets one
object, which is deleted again.

**On failure.** The error names all that is missing. Mend it and trigger again. Airflow's own
database, with pools and DAGs, is out of a task's reach: see the pools in the UI.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.doc_pages.task_pages import page
from include.chimera.flow.doctor.doctor_task import try_everything
from include.chimera.flow.retry_policy import minutes_of

with DAG(
    dag_id="chimera_doctor",
    doc_md=page(__doc__, runbook="Promises that lean on libraries"),
    description="Try all that an hour needs, from a worker",
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    is_paused_upon_creation=False,
    default_args={"owner": "data-platform"},
    params={
        "send_test_message": Param(
            False, type="boolean", description="Send a test message to each channel"
        ),
    },
    tags=["chimera"],
) as dag:
    try_everything()
