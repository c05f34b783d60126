"""Plants runs of the hourly DAG in Airflow's database, and lets the catch-up choose among them.

A process of its own: Airflow reads its database's address when it is imported. Prints the states of
the runs that catch up: after one look, after the next, and while the hourly DAG is paused.
"""

import json
import sys
from datetime import UTC, datetime

from airflow.models.dag import DagModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select, update

from include.chimera.flow.catch_up import run_ids
from include.chimera.flow.run_context import HOURLY
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Window
from tests.integration.flow.own_airflow import known_dags

FAILED, SKIPPED = TaskInstanceState.FAILED, TaskInstanceState.SKIPPED
CATCH_UP, BACKFILL = DagRunType.OPERATOR_TRIGGERED, DagRunType.BACKFILL_JOB
# The hour, the run's type and state, that of its tasks, and which attempt to catch up it was.
PLANTED = [
    (0, DagRunType.SCHEDULED, DagRunState.FAILED, FAILED, 0),
    (1, DagRunType.SCHEDULED, DagRunState.FAILED, SKIPPED, 0),
    (2, DagRunType.SCHEDULED, DagRunState.RUNNING, None, 0),
    (3, DagRunType.SCHEDULED, DagRunState.SUCCESS, TaskInstanceState.SUCCESS, 0),
    (5, CATCH_UP, DagRunState.FAILED, FAILED, 1),
    (6, CATCH_UP, DagRunState.FAILED, SKIPPED, 1),
    (7, BACKFILL, DagRunState.QUEUED, None, 0),
    *((8, CATCH_UP, DagRunState.FAILED, SKIPPED, attempt) for attempt in (1, 2, 3)),
]


def hour(number):
    return Window.of_hour(get_settings().start_date + number * HOUR)


def plant(number, run_type, state, task_state, attempt):
    """Make a run as the scheduler, a backfill or an earlier look does."""
    window = hour(number)
    name = f"{run_type.value}__{window.start.isoformat()}"
    with create_session() as session:
        made = (
            DBDagBag()
            .get_latest_version_of_dag(HOURLY, session=session)
            .create_dagrun(
                run_id=run_ids(window)[attempt - 1] if attempt else name,
                logical_date=None if attempt else window.start,
                data_interval=None if attempt else (window.start, window.end),
                run_after=window.end,
                run_type=run_type,
                triggered_by=DagRunTriggeredByType.TEST,
                state=state,
                session=session,
            )
        )
        for ti in made.task_instances:
            ti.state = task_state


def look(dag):
    """Run the catch-up once; return its runs with their states."""
    assert dag.test(logical_date=datetime.now(UTC)).state == DagRunState.SUCCESS
    with create_session() as session:
        ours = select(DagRun).where(DagRun.run_type == DagRunType.OPERATOR_TRIGGERED)
        return {run.run_id: run.state for run in session.scalars(ours)}


def main():
    dags = known_dags()
    for planted in PLANTED:
        plant(*planted)
    dag = dags["chimera_catch_up"]
    told = {"first": look(dag), "second": look(dag)}
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=True))
        session.execute(update(DagRun).values(state=DagRunState.SUCCESS))
    told["paused"] = look(dag)
    sys.stdout.write(
        "\n" + json.dumps({"runs": told, "ids": [run_ids(hour(n)) for n in range(10)]})
    )


if __name__ == "__main__":
    main()
