"""The health page's routes, each behind Airflow's login.

Whoever may see the hourly DAG sees them. What changes something asks for the same right as the
like of it in Airflow's own UI, so a viewer changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002 - FastAPI reads it
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_dag,
)
from airflow.configuration import conf
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse

from include.chimera.errors import ChimeraError
from include.chimera.flow.connections import reach_store
from include.chimera.flow.health_page import moment
from include.chimera.flow.health_page.controls import controls
from include.chimera.flow.health_page.scheduler_facts import attempts, find_run
from include.chimera.flow.run_context import HOURLY
from include.chimera.lake.store import storage
from include.chimera.operations.health import pages
from include.chimera.operations.health.incident_timeline import timeline
from include.chimera.operations.health.last_words import last_words
from include.chimera.operations.health.table_details import rule_histories, table_versions
from include.chimera.operations.health.table_graph import table_graph
from include.chimera.operations.insight.page import insight_place
from include.chimera.operations.quality_report import report_place
from include.chimera.quality.batches import staged_difference
from include.chimera.quality.row_differences import published_difference

if TYPE_CHECKING:
    from include.chimera.operations.health.known_facts import Known
    from include.chimera.operations.health.table_states import TableState

MAY_SEE = Depends(requires_access_dag("GET", param_dag_id=HOURLY))

# Its own documentation would be one more route that answers without a login.
app = FastAPI(
    title="Chimera's health",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[MAY_SEE],
    default_response_class=HTMLResponse,
)
app.include_router(controls)


@app.exception_handler(ChimeraError)
def show_error(_: Request, error: ChimeraError) -> JSONResponse:
    """Answer with our own error's four parts, which hold no row."""
    return JSONResponse({"detail": str(error)}, status_code=409)


def about(request: Request, user: GetUserDep) -> dict[str, object]:
    """Return what every page shows of itself and of who looks at it."""
    may_change = get_auth_manager().is_authorized_dag(
        method="PUT", user=user, details=DagDetails(id=HOURLY)
    )
    return {
        "root": request.scope["root_path"],
        "ui": urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/"),
        "user": user.get_name(),
        "may_change": may_change,
    }


About = Annotated[dict[str, object], Depends(about)]


@app.get("/")
def overview(session: SessionDep, shown: About) -> str:
    """Show all tables, the worst first."""
    known = moment.look(session, datetime.now(UTC))
    states = moment.states(known)
    return pages.overview(known, states, moment.gaps(known), moment.errors(states), **shown)


@app.get("/later")
def later(session: SessionDep, shown: About) -> str:
    """Show what takes longer to read: the dead letters, and the month against its objective."""
    known = moment.look_further(moment.look(session, datetime.now(UTC)))
    return pages.later(known, moment.states(known), **shown)


@app.get("/table/{table}")
def one_table(table: str, session: SessionDep, shown: About) -> str:
    """Show one table from close by."""
    known, states = _seen(session, table)
    item = states[table]
    fact = known.run(item.gate.run_id) if item.gate else None
    return pages.render(
        "table.html.j2",
        item=item,
        now=known.now,
        words={name: each.state for name, each in states.items()},
        error=moment.errors([item]).get(table, ""),
        rules=rule_histories(table, fact.run if fact else None, known.now),
        versions=table_versions(table),
        letters=[letter for letter in known.letters or () if letter.source == table],
        **shown,
    )


@app.get("/changes/{table}")
def changes(table: str, session: SessionDep) -> str:
    """Count what refused rows would change, else what the newest version changed."""
    known, states = _seen(session, table)
    item = states[table]
    fact = known.run(item.gate.run_id) if item.gate and item.state == "refused" else None
    found = staged_difference(table, fact.run) if fact else published_difference(table)
    return pages.render("changes.html.j2", found=found)


@app.get("/run/{run_id}")
def one_run(run_id: str, session: SessionDep, shown: About) -> str:
    """Show what happened in a run, which its id or its correlation id names."""
    fact = find_run(session, run_id)
    if fact is None:
        raise HTTPException(404, f"{HOURLY} has no run {run_id}, or Airflow has forgotten it")
    reach_store()
    tried = attempts(session, fact.run.run_id)
    failed = [task for task in fact.tasks.values() if task.state == "failed"]
    said = {
        task.task_id: last_words(fact.run.run_id, task.task_id, task.try_number) for task in failed
    }
    return pages.render(
        "run.html.j2",
        fact=fact,
        happenings=timeline(fact, tried, datetime.now(UTC)),
        errors={name: words for name, words in said.items() if words},
        tables=table_graph(),
        **shown,
    )


@app.get("/task/{task_id}")
def one_task(task_id: str, session: SessionDep, shown: About) -> str:
    """Show the table that a task works for; all tables, if it works for none in particular."""
    name = task_id.rpartition(".")[2]
    tables = [node.table for node in table_graph().values() if name in node.tasks]
    if len(tables) == 1:
        return one_table(tables[0], session, shown)
    return overview(session, shown)


@app.get("/insight")
def insight() -> str:
    """Show what the newest run wrote for readers (ADR 36)."""
    return _written(insight_place())


@app.get("/quality.html")  # as the insight page, a file beside it, links to it
def quality() -> str:
    """Show the quality report of the newest run."""
    return _written(report_place())


@app.get("/runbook")
def runbook(shown: About) -> str:
    """Show the runbook, whose sections the pages link to."""
    return pages.runbook(**shown)


def _written(place: str) -> str:
    """Return a page that runs write."""
    reach_store()
    page = storage.read_text(place)
    if page is None:
        raise HTTPException(404, "No run has written this page yet; each does at its end.")
    return page


def _seen(session: SessionDep, table: str) -> tuple[Known, dict[str, TableState]]:
    if table not in table_graph():
        raise HTTPException(404, f"no gate publishes a table {table}")
    known = moment.look_further(moment.look(session, datetime.now(UTC)))
    return known, {item.table: item for item in moment.states(known)}
