"""Fills a lake through its gates, plants incidents beside it in Airflow's database, asks the page.

A process of its own: Airflow reads its database's address when it is imported. Prints the codes of
each route by who asks, the pages before and after each control, and what was recorded.
"""

import json
import sys
from datetime import UTC, datetime

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import GateFailedError
from include.chimera.flow.run_context import HOURLY
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.publish.stop_switch import read_decisions
from include.chimera.lake.staged.records import read_record
from include.chimera.quality.acceptance import Acceptance, accept, find_run
from include.chimera.quality.quality_results import record_quality
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.flow.own_airflow import known_dags
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import gated, stage
from tests.integration.quality.hours import bronze_tables

REFUSED, ACCEPTED = "bronze.generations", "bronze.evaluations"
NOW = floor_hour(datetime.now(UTC))
EARLIER, NEWEST = (Window.of_hour(NOW - back * HOUR) for back in (2, 1))


def run_of(window):
    return Run(f"scheduled__{window.end.isoformat()}", window)


def judge(run, table, rows):
    """Stage rows and let their gate decide, as its task does; return whether it published them."""
    stage(run, table, rows)
    with gated(run, table) as (gate, _):
        try:
            gate.publish()
        except GateFailedError:
            return False
    return True


def fill():
    """Publish an hour; refuse two tables of the next, and let a person accept one of them.

    Returns:
        The rows of the refused table's hour.
    """
    feed = GeneratedFeed(1000)
    earlier, newest = run_of(EARLIER), run_of(NEWEST)
    for table, rows in bronze_tables(feed, EARLIER).items():
        assert judge(earlier, table, rows)
    tables = bronze_tables(feed, NEWEST)
    assert judge(newest, "bronze.models", tables["bronze.models"])
    for table in (REFUSED, ACCEPTED):
        rows = tables[table]
        assert not judge(newest, table, put("status", None)(rows, chosen_rows(rows, 0.09, 1)))
    accept(ACCEPTED, newest.run_id, "known, see the ticket", "maria")
    with gated(newest, ACCEPTED) as (gate, _):
        gate.publish()
    for run in (earlier, newest):
        record_quality(run)
        close_run(run)
    return len(tables[REFUSED])


def plant(window, states, tries=()):
    """Make a scheduled run; its tasks have these states, by the ends of their ids."""
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(HOURLY, session=session)
        is_bad = bool(states)
        made = dag.create_dagrun(
            run_id=run_of(window).run_id,
            logical_date=window.start,
            data_interval=(window.start, window.end),
            run_after=window.end,
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TEST,
            state="failed" if is_bad else "success",
            start_date=window.end,
            session=session,
        )
        for ti in made.task_instances:
            end = ti.task_id.rpartition(".")[2]
            rest = (
                "upstream_failed"
                if is_bad and ti.task_id.startswith(("build_", "gate_silver_", "gate_gold_"))
                else "success"
            )
            ti.state = states.get(end, rest)
            ti.try_number = 4 if end in tries else 1
            ti.start_date = ti.end_date = window.end
        made.end_date = window.end


def set_up():
    known_dags()
    rows = fill()
    plant(EARLIER, {})
    bad = {
        "gate_bronze_generations": "failed",
        "wait_for_api_logs": "failed",
        "extract_api_logs": "upstream_failed",
        "gate_bronze_api_logs": "upstream_failed",
        "extract_provider_metrics": "up_for_retry",
        "gate_bronze_provider_metrics": None,
        "build_stg_app__models": "failed",
        "report_run": "upstream_failed",
    }
    plant(NEWEST, bad, ["build_stg_app__models"])
    return rows


def finish(run_id):
    """End a cleared run as the scheduler would, had it run."""
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == run_id).values(state="failed"))


class Page:
    """The page as somebody with a role sees it; None: without a login."""

    def __init__(self, client, role):
        self.client, self.headers = client, {}
        if role:
            user = SimpleAuthManagerUser(username=role.lower(), role=role)
            self.headers = {"Authorization": f"Bearer {get_auth_manager().generate_jwt(user)}"}

    def get(self, path):
        answer = self.client.get(f"/chimera{path}", headers=self.headers)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[-2000:])
        return answer.text

    def code(self, method, path):
        body = {} if method == "get" else {"json": {}}
        place = f"/chimera{path}".replace("{", "").replace("}", "")
        return self.client.request(method, place, headers=self.headers, **body).status_code

    def do(self, action, **given):
        answer = self.client.post(f"/chimera/actions/{action}", headers=self.headers, json=given)
        return [answer.status_code, answer.json()]


def main():
    rows = set_up()
    whole = create_app(apps="all")
    (app,) = [route.app for route in whole.routes if getattr(route, "path", "") == "/chimera"]
    client = TestClient(whole)
    nobody, viewer, user = (Page(client, role) for role in (None, "VIEWER", "USER"))
    routes = [(method, path) for path, by in app.openapi()["paths"].items() for method in by]
    told = {
        "rows": rows,
        "codes": [
            [method, path, *(each.code(method, path) for each in (nobody, viewer, user))]
            for method, path in routes
        ],
        "overview": viewer.get("/"),
        "later": viewer.get("/later"),
        "table": viewer.get(f"/table/{REFUSED}"),
        "changes": viewer.get(f"/changes/{REFUSED}"),
        "changed": viewer.get("/changes/bronze.models"),
        "run": viewer.get(f"/run/{run_of(NEWEST).run_id}"),
        "by_correlation_id": viewer.get(f"/run/{run_of(NEWEST).correlation_id}"),
        "task": viewer.get("/task/build_stg_app__models"),
        "runbook": viewer.get("/runbook"),
    }
    run_id = run_of(NEWEST).run_id
    told["empty_reason"] = user.do("stop", reason="  ")
    told["restore_too_soon"] = user.do("restore", table=ACCEPTED, version=0, reason="x")
    told["stop"] = user.do("stop", reason="costs look wrong")
    told["stopped"] = user.get("/")
    told["restore"] = user.do("restore", table=ACCEPTED, version=0, reason="costs look wrong")
    told["restored"] = user.get(f"/table/{ACCEPTED}")
    told["resume"] = user.do("resume", reason="mended")
    told["accept"] = user.do("accept", table=REFUSED, run_id=run_id, reason="it is a test")
    told["rerun_at_work"] = user.do("rerun", table="", run_id=run_id, reason="again")
    finish(run_id)
    told["rerun"] = user.do("rerun", table="", run_id=run_id, reason="the source is back")
    finish(run_id)
    told["restage"] = user.do("restage", table=REFUSED, run_id=run_id, reason="mended there")
    told["replay"] = user.do("replay", reason="mended")
    told["heal"] = user.do("heal", reason="after the outage")
    told["decisions"] = [vars(each) for each in read_decisions()]
    told["acceptance"] = vars(read_record(find_run(REFUSED, run_id), REFUSED, Acceptance))
    with create_session() as session:
        made = session.scalars(select(DagRun).where(DagRun.triggering_user_name == "user")).all()
        told["runs"] = [[r.dag_id, r.triggering_user_name, r.note, r.conf] for r in made]
        again = session.scalar(select(DagRun).where(DagRun.run_id == run_id))
        told["again"] = {ti.task_id: ti.state for ti in again.task_instances}
        told["note"] = again.note
    sys.stdout.write("\n" + json.dumps(told, default=str))


if __name__ == "__main__":
    main()
