"""What a catalogue is told of an hour: a real scheduler, Airflow's OpenLineage provider, HTTP.

The provider is installed as docs/production.md says, in an environment of its own beside ours.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import psycopg
import pytest
from deltalake import DeltaTable

from include.chimera.lake.staged.verdicts import RATIO_RULE
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.quality.rules.book import gated_tables, rule_book
from tests.e2e.duty import on_duty
from tests.environments import environment_of
from tests.lineage_events import faults, origins
from tests.serving import served

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PROVIDER = "apache-airflow-providers-openlineage==2.20.3"
REFUSED = "bronze.evaluations"
SOURCES = {"app.generations", "app.evaluations", "app.models"}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Install the provider beside this environment's packages; return the interpreter's path."""
    folder = tmp_path_factory.mktemp("provider")
    return str(environment_of(folder, PROVIDER, beside_ours=True) / "python")


@pytest.fixture(scope="module")
def catalogue():
    """Yield a catalogue's address and the events that it was sent, each as it came."""
    taken = []

    class Catalogue(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Catalogue)) as url:
        yield url, taken


@pytest.fixture(scope="module")
def duty(python, catalogue, tmp_path_factory):
    url, _ = catalogue
    lineage = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "http", "url": url}),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "chimera",
    }
    with (
        patch.object(sys, "executable", python),
        on_duty(
            tmp_path_factory.mktemp("lineage"), CHIMERA_DEADLINE_SECONDS="600", **lineage
        ) as it,
    ):
        yield it


@pytest.fixture(scope="module")
def told(duty, catalogue):
    """Let an hour run with a bad batch, accept that; return the events until each run has ended."""
    _, taken = catalogue
    with psycopg.connect(duty.stack.app_db_uri, autocommit=True) as database:
        database.execute("update app.evaluations set iterations = -1")
    duty.stack.api.set_paused(DAG_ID, is_paused=False)
    deadline = time.monotonic() + 60
    while not (runs := duty.stack.api.runs(DAG_ID)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    run_id, gate = runs[0].run_id, "gate_bronze_evaluations"
    assert duty.wait(DAG_ID, run_id, 400).state == "failed"
    assert duty.states(DAG_ID, run_id)[gate] == "failed"
    assert duty.command("accept", REFUSED, "--run", run_id, "--reason", "a drill")[0] == 0
    assert duty.clear(DAG_ID, run_id, gate, include_downstream=True).state == "success"
    while open_runs(taken):
        assert time.monotonic() < deadline + 900, open_runs(taken)
        time.sleep(0.5)
    return list(taken)


def open_runs(events):
    """Return the runs that began and have not ended, by job."""
    ended = {each["run"]["runId"] for each in events if each["eventType"] in ("COMPLETE", "FAIL")}
    return [
        each["job"]["name"]
        for each in events
        if each["eventType"] == "START" and each["run"]["runId"] not in ended
    ]


def of_gate(events, table, state):
    """Return the events of a table's gate in a state, in the order in which they came."""
    name = f"{DAG_ID}.gate_{table.replace('.', '_')}"
    return [each for each in events if each["job"]["name"] == name and each["eventType"] == state]


def assertions(event):
    """Return what an event says of the rules, by their ids."""
    judged = event["inputs"][-1]["inputFacets"]["dataQualityAssertions"]
    return {each["name"]: each for each in judged["assertions"]}


def test_every_event_keeps_the_published_schemas(told) -> None:
    assert len(told) > 2 * len(gated_tables())
    assert [line for event in told for line in faults(event)] == []


def test_each_run_begins_and_ends_once(told) -> None:
    """Of the DAG's run and of each try of a task."""
    kinds = {"START": "begin", "COMPLETE": "end", "FAIL": "end"}
    seen = Counter((each["run"]["runId"], kinds[each["eventType"]]) for each in told)
    assert set(seen.values()) == {1}
    assert len(seen) % 2 == 0


def test_each_gold_column_leads_to_a_source(told) -> None:
    found = origins(told)
    gold = {key: roots for key, roots in found.items() if "/gold/" in key[0]}
    tables = {name for name in gated_tables() if name.startswith("gold.")}
    assert {key[0].rpartition("/")[2] for key in gold} == {each[5:] for each in tables}
    assert len(gold) > 150
    assert not [key for key, roots in gold.items() if not roots]
    roots = set().union(*gold.values())
    assert roots > SOURCES
    assert not [name for name in roots if "/lake/" in name]


def test_each_commit_tells_its_rows(told, duty) -> None:
    """The lake was empty, so all rows of the version are new."""
    for table in gated_tables():
        (event,) = of_gate(told, table, "COMPLETE")
        (output,) = event["outputs"]
        version = int(output["facets"]["version"]["datasetVersion"])
        stored = DeltaTable(duty.stack.layout.root / "lake" / table.replace(".", "/"), version)
        rows = output["outputFacets"]["outputStatistics"]["rowCount"]
        assert (table, rows) == (table, stored.to_pyarrow_dataset().count_rows())


def test_each_rule_is_an_assertion_also_of_the_refused_gate(told) -> None:
    """Bronze has one more: that enough rows are good."""
    for table in gated_tables():
        (event,) = of_gate(told, table, "COMPLETE")
        more = {RATIO_RULE} if table.startswith("bronze.") else set()
        rules = {rule.rule_id for rule in rule_book(table).rules}
        assert (table, set(assertions(event))) == (table, rules | more)
    (event,) = of_gate(told, REFUSED, "FAIL")
    assert event["outputs"] == []
    broken = {name for name, each in assertions(event).items() if not each["success"]}
    assert {"between_iterations", RATIO_RULE} <= broken
    assert assertions(event)["between_iterations"]["column"] == "iterations"
    (accepted,) = of_gate(told, REFUSED, "COMPLETE")
    assert not assertions(accepted)["between_iterations"]["success"]


def test_no_event_has_a_rows_content(told, duty) -> None:
    with psycopg.connect(duty.stack.app_db_uri) as database:
        found = database.execute(
            "select generation_id::text from app.generations union "
            "select evaluation_id::text from app.evaluations union "
            "select user_id from app.generations"
        ).fetchall()
    text = json.dumps(told)
    names = [name for (name,) in found if name]
    assert len(names) > 1000
    assert not [name for name in names if name in text]
