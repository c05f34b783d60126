"""`doctor` in a Deployment: Airflow's database, its connections, a lake, and no servers of ours."""

import json
import os
import subprocess
import sys

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.chimera.demo.app_database import SCHEMA
from include.chimera.paths import PROJECT
from tests.integration.sources.test_reader_role import ROLE

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


def findings(done):
    return {found["check"]: found for found in map(json.loads, done.stdout.splitlines())}


def test_an_empty_deployment_is_told_line_by_line_what_it_lacks(deployment, app_db) -> None:
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
    refused = '{"conn_type": "http", "host": "h", "extra": {"timeout": 5}}'
    done = deployment("-m", "include.chimera", "doctor", "--json", AIRFLOW_CONN_PROMETHEUS=refused)
    found = findings(done)
    assert found["airflow: pools"]["text"] == "app_db 3, duckdb 4"
    assert "connection app_db" not in found
    database = [each for check, each in found.items() if check.startswith("database: ")]
    assert len(database) == 6
    assert [each for each in database if not each["is_kept"]] == []
    assert "`timeout`" in found["connection prometheus"]["text"]
