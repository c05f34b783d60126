"""The hourly DAG is edited twice while a run works; each run that takes too long is told once."""

import json
import time

import psycopg
import pytest

from include.chimera.local.servers.postgres_server import AIRFLOW_DATABASE
from include.chimera.local.servers.stack import DAG_ID
from tests.e2e.duty import on_duty
from tests.e2e.statsd import StatsdSink

pytestmark = [pytest.mark.e2e, pytest.mark.long]

WORDS = ("Hourly analytics", "Analytics of an hour", "What happened in an hour")


@pytest.fixture(scope="module")
def sink():
    """Listen to the stack's metrics."""
    with StatsdSink() as listening:
        yield listening


@pytest.fixture(scope="module")
def duty(sink, tmp_path_factory):
    """Start the stack; every edit of a DAG is stored at once."""
    at_once = {"AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0"}
    with on_duty(tmp_path_factory.mktemp("edited"), **sink.variables(), **at_once) as started:
        yield started


def versions(duty):
    """Return how many versions of the DAG Airflow has stored."""
    return duty.request("GET", f"/dags/{DAG_ID}/dagVersions")["total_entries"]


def edit(duty, old, new):
    """Change words of the DAG's description, and wait until Airflow has a new version."""
    before, file = versions(duty), duty.stack.plan.dags_folder / "chimera_etl_hourly.py"
    source = file.read_text()
    assert old in source
    file.write_text(source.replace(f'description="{old}', f'description="{new}'))
    token = duty.request("GET", f"/dags/{DAG_ID}/details")["file_token"]
    duty.request("PUT", f"/parseDagFile/{token}")
    deadline = time.monotonic() + 60
    while versions(duty) == before:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def wait_for_runs(duty):
    """Return the runs once there is one."""
    deadline = time.monotonic() + 60
    while not (runs := duty.stack.api.runs(DAG_ID)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return runs


def end(duty, run_id):
    """Wait until it is told that a run is late, and end it: nobody has to see it through."""
    duty.slack.wait_for("is late", run_id)
    duty.mail.wait_for("is late", run_id)
    duty.stack.api.fail(DAG_ID, run_id)


@pytest.fixture(scope="module")
def runs(duty):
    """Edit the DAG while a run works, once more after it, and run again; return what is said."""
    duty.stack.api.set_paused(DAG_ID, is_paused=False)
    first = wait_for_runs(duty)[0].run_id
    edit(duty, *WORDS[:2])
    said = duty.command("doctor", "--json")
    end(duty, first)
    edit(duty, *WORDS[1:])
    second = duty.trigger(DAG_ID)
    said_again = duty.command("doctor", "--json")
    end(duty, second)
    return {first: said, second: said_again}


def test_each_late_run_is_told_once_on_both_channels(duty, runs) -> None:
    """The one that worked while its DAG was edited, and the one of the newest version."""
    time.sleep(5.0)  # another one would have come by then
    for run_id in runs:
        assert len(duty.slack.find("is late", run_id)) == 1
        assert len(duty.mail.find("is late", run_id)) == 1


def kept(text):
    """Return which of doctor's checks were as they should be; the sample's hours are over."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {found["check"] for found in lines if found["is_kept"]}


def test_doctor_and_status_say_that_the_next_run_has_its_deadline(duty, runs) -> None:
    for _, text in runs.values():
        assert "the next run is late after 6 s" in text
        assert kept(text) >= {"versions", "deadline", "runs", "airflow: pools", "database: login"}
    code, text = duty.command("status")
    assert (code, "the next run is late after 6 s" in text) == (0, True)


def test_a_run_without_its_deadline_is_noticed_when_it_starts(duty, runs, sink) -> None:  # noqa: ARG001 - after them
    """As in a release that stores no record: metric, log, and what the commands say."""
    name = "chimera_runs_without_deadline_total"
    assert not [line for line in sink.lines if name in line]
    with psycopg.connect(duty.stack._postgres.uri(AIRFLOW_DATABASE), autocommit=True) as database:
        database.execute("delete from deadline_alert")
    lost = duty.trigger(DAG_ID)
    deadline = time.monotonic() + 60
    while not [line for line in sink.lines if name in line]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    code, text = duty.command("doctor", "--json")
    assert code == 1
    assert f"NONE for the next run of {DAG_ID}" in text
    assert f"NONE for {lost}" in text
    assert "NONE" in duty.command("status")[1]
