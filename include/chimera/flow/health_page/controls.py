"""The health page's controls: what a person changes, through the command line's own functions.

Each asks for a reason, and records it with the name of whoever is signed in. Runs are begun and
cleared in Airflow as its own UI does it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002 - FastAPI reads it
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_dag,
)
from airflow.models import DagModel, DagRun
from airflow.models.dagbag import DBDagBag
from airflow.utils.types import DagRunTriggeredByType
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select

from include.chimera.errors import CLI, ControlRefusedError
from include.chimera.flow.health_page import moment
from include.chimera.flow.run_context import HOURLY
from include.chimera.operations import manual_controls
from include.chimera.operations.health.table_graph import table_graph
from include.chimera.quality import acceptance
from include.chimera.quality.acceptance import REASON_LENGTH
from include.chimera.relation import gate_id

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from sqlalchemy.orm import Session

REPLAY = "chimera_dead_letter_replay"
_ENDED, _OVER = {"failed", "upstream_failed"}, {"success", "failed"}


def _may(method: Any, dag_id: str, entity: DagAccessEntity | None = None) -> Any:  # noqa: ANN401 - Airflow's
    return Depends(requires_access_dag(method, entity, param_dag_id=dag_id))


MAY_EDIT = _may("PUT", HOURLY)
MAY_CLEAR = _may("PUT", HOURLY, DagAccessEntity.TASK_INSTANCE)
MAY_TRIGGER = _may("POST", HOURLY, DagAccessEntity.RUN)
MAY_REPLAY = _may("POST", REPLAY, DagAccessEntity.RUN)

controls = APIRouter(prefix="/actions", default_response_class=JSONResponse)
Name = Annotated[str, StringConstraints(min_length=1, max_length=250)]


class Wanted(BaseModel, extra="forbid"):
    """What each control is given: why."""

    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_LENGTH)
    ]


class WantedRun(Wanted):
    """A table's tasks in one run; "": those of any table."""

    table: Annotated[str, StringConstraints(max_length=250)]
    run_id: Name


class WantedVersion(Wanted):
    """A version of a table."""

    table: Name
    version: Annotated[int, Field(ge=0)]


class Done(BaseModel):
    """What a control did, in a sentence."""

    done: str


@controls.post("/stop", dependencies=[MAY_EDIT])
def stop(wanted: Wanted, user: GetUserDep) -> Done:
    """Keep every gate from publishing."""
    decision = manual_controls.stop_publishing(wanted.reason, _name(user))
    return _done(str(decision))


@controls.post("/resume", dependencies=[MAY_EDIT])
def resume(wanted: Wanted, user: GetUserDep) -> Done:
    """Let gates publish again."""
    decision = manual_controls.resume_publishing(wanted.reason, _name(user))
    return _done(str(decision))


@controls.post("/restore", dependencies=[MAY_EDIT])
def restore(wanted: WantedVersion, user: GetUserDep) -> Done:
    """Put a table back to a version."""
    made = manual_controls.restore(wanted.table, wanted.version, wanted.reason, _name(user))
    return _done(
        f"{wanted.table} is at version {made}, with the rows of version {wanted.version}. "
        "Mend the cause, then resume publishing."
    )


@controls.post("/accept", dependencies=[MAY_EDIT, MAY_CLEAR])
def accept(wanted: WantedRun, user: GetUserDep, session: SessionDep) -> Done:
    """Accept the rows of a failed gate, and let the gate run again."""
    found = acceptance.accept(wanted.table, wanted.run_id, wanted.reason, _name(user))
    cleared = _clear(session, found.run_id, {gate_id(wanted.table)})
    return _done(
        f"{found.accepted_by} accepts {', '.join(found.rules)} in {wanted.table}; "
        f"{cleared} tasks run again"
    )


@controls.post("/restage", dependencies=[MAY_CLEAR])
def restage(wanted: WantedRun, user: GetUserDep, session: SessionDep) -> Done:
    """Let the task that staged a table's rows run again, its gate, and what waits for it."""
    node = table_graph().get(wanted.table)
    tasks = set(node.tasks[-2:] if node else ())
    cleared = _clear(session, wanted.run_id, tasks, note=f"{_name(user)}: {wanted.reason}")
    return _done(f"{cleared} tasks run again")


@controls.post("/rerun", dependencies=[MAY_CLEAR])
def rerun(wanted: WantedRun, user: GetUserDep, session: SessionDep) -> Done:
    """Let the failed tasks of a run, and what waits for them, run again."""
    note = f"{_name(user)}: {wanted.reason}"
    cleared = _clear(session, wanted.run_id, None, note=note)
    return _done(f"{cleared} tasks run again")


@controls.post("/replay", dependencies=[MAY_REPLAY])
def replay(wanted: Wanted, user: GetUserDep, session: SessionDep) -> Done:
    """Replay the dead letters that wait, in a run of the DAG for it."""
    return _done(f"{_trigger(session, REPLAY, user, wanted.reason)} is queued")


@controls.post("/heal", dependencies=[MAY_TRIGGER])
def heal(wanted: Wanted, user: GetUserDep, session: SessionDep) -> Done:
    """Compute the last day's missing hours again: one run, from the first to the last of them."""
    known = moment.look(session, datetime.now(UTC))
    windows = sorted({gap.window for gap in moment.gaps(known)})
    if not windows:
        raise ControlRefusedError(
            expected="hours that a table lacks",
            came="none in the last day",
            where=HOURLY,
            remedy=f"older ones: {CLI} gaps, and the runbook",
        )
    whole = {"window_start": windows[0].start, "window_end": max(gap.end for gap in windows)}
    conf = {name: bound.isoformat() for name, bound in whole.items()}
    return _done(f"{_trigger(session, HOURLY, user, wanted.reason, conf)} is queued")


def _name(user: BaseUser) -> str:
    return user.get_name()


def _done(text: str) -> Done:
    moment.forget()
    return Done(done=text)


def _trigger(
    session: Session,
    dag_id: str,
    user: BaseUser,
    reason: str,
    conf: dict[str, str] | None = None,
) -> str:
    """Queue a run that names who wanted it and why; return its id.

    Raises:
        ControlRefusedError: The DAG is not there, or paused, so that the run would never begin.
    """
    dag = session.get(DagModel, dag_id)
    if dag is None or dag.is_paused:
        raise ControlRefusedError(
            expected="a DAG that runs",
            came="one that is paused" if dag else "none of that name",
            where=dag_id,
            remedy=f"airflow dags unpause {dag_id}",
        )
    run = trigger_dag(
        dag_id,
        triggered_by=DagRunTriggeredByType.UI,
        triggering_user_name=_name(user),
        conf=conf or {},
        note=f"{_name(user)}: {reason}",
        session=session,
    )
    return str(run.run_id) if run else dag_id


def _clear(session: Session, run_id: str, tasks: set[str] | None, note: str = "") -> int:
    """Clear tasks of a run with all that waits for them; return how many.

    Args:
        session: Of Airflow's database.
        run_id: The run.
        tasks: Their ids without groups; None: those that failed.
        note: What the run is noted with; "": nothing.

    Raises:
        ControlRefusedError: There is no such run, it is at work, or it has no such tasks.
    """
    run = session.scalar(select(DagRun).where(DagRun.dag_id == HOURLY, DagRun.run_id == run_id))
    dag = DBDagBag().get_dag_for_run(run, session) if run else None
    found = run.get_task_instances(session=session) if run else []
    begun = {ti.task_id for ti in found if _is_meant(ti.task_id, ti.state, tasks)}
    is_over = run is not None and run.state in _OVER
    if run is None or dag is None or not begun or not is_over:
        raise ControlRefusedError(
            expected="a run that has ended, with " + ("failed tasks" if tasks is None else "these"),
            came="none of that id" if run is None else f"a run in state {run.state}",
            where=f"{HOURLY}, run {run_id}, {', '.join(sorted(tasks or ())) or 'failed tasks'}",
            remedy="open the run in Airflow: it may be at work, or mended, already",
        )
    behind = {each for name in begun for each in dag.get_task(name).get_flat_relative_ids()}
    if note:
        run.note = note
    return dag.clear(task_ids=[*(begun | behind)], run_id=run_id, session=session)


def _is_meant(task_id: str, state: str | None, tasks: set[str] | None) -> bool:
    return state in _ENDED if tasks is None else task_id.rpartition(".")[2] in tasks
