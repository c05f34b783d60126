"""`doctor` in a Deployment: Airflow's database, its connections, a lake, and no servers of ours."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.chimera.demo.app_database import SCHEMA
from include.chimera.paths import PROJECT
from include.chimera.window import HOUR, floor_hour
from tests.integration.sources.test_reader_role import ROLE
from tests.serving import served

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(tmp_path):
    """Return a function that runs a command in an environment as Airflow's components have it."""
    place = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "CHIMERA_STATE_DIR": str(tmp_path / "state"),
    }

    def run(*words, **variables):
        return subprocess.run(  # noqa: S603 - our own commands
            [sys.executable, *words],
            env={**os.environ, **place, **variables},  # noqa: TID251 - a child inherits
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )

    made = run("-c", "from airflow.utils.db import initdb; initdb()")
    assert made.returncode == 0, made.stderr
    return run


@pytest.fixture
def slack():
    """Return a list of what a webhook at `slack.url` is sent."""

    class Sent(list):
        url = ""

    sent = Sent()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    with served(HTTPServer(("127.0.0.1", 0), Webhook)) as sent.url:
        yield sent


def findings(done):
    return {found["check"]: found for found in map(json.loads, done.stdout.splitlines())}


def test_an_empty_deployment_is_told_line_by_line_what_it_lacks(
    deployment, app_db, slack, tmp_path
) -> None:
    """And the lines mend it; a connection is found wherever Airflow looks for it."""
    done = deployment("-m", "include.chimera", "doctor", "--json")
    found = findings(done)
    missing = {check: each["remedy"] for check, each in found.items() if not each["is_kept"]}
    assert done.returncode == 1
    assert {"airflow: pools", "airflow: DAG", "connection app_db", "connection prometheus"} <= set(
        missing
    )
    assert missing["airflow: pools"].startswith("airflow pools set app_db 3 ")
    assert missing["connection app_db"].startswith("airflow connections add app_db --conn-json ")
    assert found["airflow: plugins"]["is_kept"]
    assert found["lake"]["is_kept"]
    assert missing["api logs"]

    with psycopg.connect(app_db, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        connection.execute(ROLE.read_text())
    place = conninfo_to_dict(app_db)
    own = {"conn_type": "postgres", "host": place["host"], "login": place["user"], "schema": "app"}
    for words in (
        ("pools", "set", "app_db", "3", "x"),
        ("pools", "set", "duckdb", "4", "x"),
        ("connections", "add", "app_db", "--conn-json", json.dumps(own)),
    ):
        done = deployment("-m", "airflow", *words)
        assert done.returncode == 0, done.stderr
    hour = floor_hour(datetime.now(UTC)) - 2 * HOUR
    log = tmp_path / "logs" / f"dt={hour:%Y-%m-%d}" / f"hour={hour:%H}" / "api.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    webhook = {"conn_type": "slackwebhook", "password": slack.url}
    others = {
        "AIRFLOW_CONN_PROMETHEUS": '{"conn_type": "http", "host": "h", "extra": {"timeout": 5}}',
        "AIRFLOW_CONN_SLACK_WEBHOOK": json.dumps(webhook),
        "AIRFLOW_CONN_SMTP_DEFAULT": '{"conn_type": "smtp", "host": "127.0.0.1", "port": 9}',
        "CHIMERA_ALERT_EMAILS": "duty@example.com",
        "CHIMERA_API_LOGS_ROOT": str(tmp_path / "logs"),
    }
    words = ("-m", "include.chimera", "doctor", "--json", "--send-test-message")
    done = deployment(*words, **others)
    found = findings(done)
    assert found["airflow: pools"]["text"] == "app_db 3, duckdb 4"
    assert "connection app_db" not in found
    database = [each for check, each in found.items() if check.startswith("database: ")]
    assert len(database) == 6
    assert [each for each in database if not each["is_kept"]] == []
    assert "`timeout`" in found["connection prometheus"]["text"]
    assert found["api logs"]["text"].endswith("1 files, the newest hour")
    assert found["alerts: slack_webhook"]["text"] == "a test message was taken"
    assert [b"A test message" in body for body in slack] == [True]
    assert not found["alerts: smtp_default"]["is_kept"]
