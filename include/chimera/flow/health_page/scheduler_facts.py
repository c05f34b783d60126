"""What Airflow's database knows of the hourly DAG's runs, for the API server's pages."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from airflow.models import DagModel, DagRun, TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from sqlalchemy import select

from include.chimera.errors import ChimeraError
from include.chimera.flow.run_context import HOURLY, read_run
from include.chimera.operations.health.known_facts import RunFact, TaskFact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_RUNS = 60  # a day's hours, and those that were caught up or run again meanwhile
_UNFINISHED = ("queued", "running")


def newest_runs(session: Session) -> list[RunFact]:
    """Return the newest runs of the hourly DAG and all unfinished ones, the newest last."""
    ours = select(DagRun).where(DagRun.dag_id == HOURLY)
    newest = session.scalars(ours.order_by(DagRun.run_after.desc()).limit(_RUNS)).all()
    working = session.scalars(ours.where(DagRun.state.in_(_UNFINISHED)).limit(_RUNS)).all()
    return _facts(session, [*{run.id: run for run in (*newest, *working)}.values()])


def find_run(session: Session, name: str) -> RunFact | None:
    """Return a run by its id or its correlation id among the newest; None: there is none."""
    ours = select(DagRun).where(DagRun.dag_id == HOURLY)
    by_id = session.scalars(ours.where(DagRun.run_id == name)).all()
    if by_id:
        return next(iter(_facts(session, by_id)), None)
    return next((f for f in newest_runs(session) if f.run.correlation_id == name), None)


def is_paused(session: Session) -> bool | None:
    """Return whether the hourly DAG is paused; None: Airflow does not know the DAG."""
    return session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == HOURLY))


def attempts(session: Session, run_id: str) -> list[TaskFact]:
    """Return each attempt of a run's tasks that has begun, in order of time."""
    found = []
    for kind in (TaskInstanceHistory, TaskInstance):
        rows = session.execute(
            select(kind.task_id, kind.state, kind.try_number, kind.start_date, kind.end_date).where(
                kind.dag_id == HOURLY, kind.run_id == run_id, kind.start_date.is_not(None)
            )
        )
        found += [TaskFact(*row) for row in rows]
    unique = {(fact.task_id, fact.try_number): fact for fact in found}
    return sorted(unique.values(), key=lambda fact: (fact.started_at, fact.task_id))


def _facts(session: Session, runs: Sequence[DagRun]) -> list[RunFact]:
    tasks: dict[str, dict[str, TaskFact]] = defaultdict(dict)
    columns = (
        *(TaskInstance.run_id, TaskInstance.task_id, TaskInstance.state),
        *(TaskInstance.try_number, TaskInstance.start_date, TaskInstance.end_date),
    )
    ids = [run.run_id for run in runs]
    mine = select(*columns).where(TaskInstance.dag_id == HOURLY, TaskInstance.run_id.in_(ids))
    for run_id, *told in session.execute(mine):
        fact = TaskFact(*told)
        tasks[run_id][fact.name] = fact
    found = []
    for run in runs:
        try:
            ours = read_run(run, run.conf or {})
        except ChimeraError:
            continue  # its params make no sense, so none of its tasks has begun any hour
        state = str(getattr(run.state, "value", run.state))
        found.append(RunFact(ours, state, run.start_date, run.end_date, tasks[run.run_id]))
    return sorted(found, key=lambda fact: fact.run.window)
