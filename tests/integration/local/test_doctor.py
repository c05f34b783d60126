"""What `doctor` says of versions, and of an Airflow that has, lacks or does not know a deadline."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from include.chimera.local import doctor
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.paths import PROJECT
from tests.serving import served

pytestmark = pytest.mark.integration

FILES = ("requirements.txt", "requirements-dev.txt")


@pytest.fixture
def ask():
    """Return a function that asks an API which answers with certain deadlines; None: 404."""

    def ask(seconds):
        class Airflow(BaseHTTPRequestHandler):
            def answer(self, code, body):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def do_POST(self):
                self.answer(201, {"access_token": "x"})

            def do_GET(self):
                found = [{"interval": each} for each in seconds or ()]
                path = "/ui/dags/chimera_etl_hourly/deadlineAlerts"
                known = self.path == path and seconds is not None
                self.answer(200 if known else 404, {"deadline_alerts": found})

            def log_message(self, *_):
                pass

        with served(HTTPServer(("127.0.0.1", 0), Airflow)) as url:
            api = AirflowApi(url, "admin", "x")
            try:
                return doctor.check_next_run(api)
            finally:
                api.close()

    return ask


@pytest.mark.parametrize(
    ("seconds", "is_kept", "words"),
    [
        ([600.0], True, "the next run is late after 600 s"),
        ([], False, "NONE for the next run of chimera_etl_hourly"),
        (None, False, "unknown: Airflow has not read chimera_etl_hourly"),
    ],
)
def test_the_next_runs_deadline_is_there_missing_or_unknown(ask, seconds, is_kept, words) -> None:
    """A promise that could not be checked does not count as kept."""
    finding = ask(seconds)
    assert (finding.is_kept, words in finding.text) == (is_kept, True)


def test_the_packages_are_the_pinned_ones() -> None:
    finding = doctor.check_versions(*FILES)
    assert finding.is_kept, finding.text


def test_another_version_and_a_missing_package_are_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "requirements.txt").write_text("duckdb==0.0.1  # old\nuvicorn[standard]>=1\n")
    (tmp_path / "requirements-dev.txt").write_text("no-such-package==1.0\n")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    finding = doctor.check_versions(*FILES)
    assert not finding.is_kept
    assert ", not 0.0.1" in finding.text
    assert "no-such-package is missing, not 1.0" in finding.text


def test_without_airflow_nothing_is_taken_for_well(tmp_path) -> None:
    """Neither servers that run here, nor a Deployment's variables."""
    bare = {name: text for name, text in os.environ.items() if not name.startswith("AIRFLOW")}  # noqa: TID251 - a child inherits
    done = subprocess.run(
        [sys.executable, "-m", "include.chimera", "doctor", "--json"],
        env=bare | {"CHIMERA_STATE_DIR": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    versions, airflow = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, versions["is_kept"], airflow["is_kept"]) == (1, True, False)
    assert airflow["remedy"].startswith("make up")
