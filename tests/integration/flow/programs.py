"""Run a module of this folder on an Airflow database of its own."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import psycopg

from include.chimera.local.servers.postgres_server import AIRFLOW_DATABASE
from include.chimera.paths import PROJECT
from tests.integration.object_store import dying_with_us

AIRFLOW_USERS = {
    "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager."
    "SimpleAuthManager",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:VIEWER,user:USER",
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__API_AUTH__JWT_SECRET": "of this test alone" * 4,  # pragma: allowlist secret
}
"""Variables of an Airflow whose pages ask for a login, with the project's plugins."""


@contextmanager
def told_by(module, postgres, home, dags, **variables):
    """Run `tests.integration.flow.<module>`; yield what its last line, JSON, tells.

    Args:
        module: The module's name.
        postgres: The server, whose database of Airflow is emptied afterwards.
        home: An empty folder.
        dags: The folder of the DAGs.
        variables: Environment variables beside the inherited ones.
    """
    with started(module, postgres, home, dags, **variables) as program:
        told, _ = program.communicate()
        assert program.returncode == 0, (home / "stderr").read_text()
        yield json.loads(told.splitlines()[-1])


@contextmanager
def started(module, postgres, home, dags, **variables):
    """Start `tests.integration.flow.<module>`; yield the process, and kill it; see `told_by`."""
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.uri(AIRFLOW_DATABASE, "psycopg2"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "CHIMERA_STATE_DIR": str(home / "state"),
    }
    with (home / "stderr").open("w") as errors:
        program = subprocess.Popen(  # noqa: S603 - our own code
            dying_with_us(sys.executable, "-W", "ignore", "-m", f"tests.integration.flow.{module}"),
            cwd=PROJECT,
            env={**os.environ, **settings, **variables},  # noqa: TID251 - a child inherits
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()
        with psycopg.connect(postgres.uri(AIRFLOW_DATABASE), autocommit=True) as connection:
            connection.execute("drop schema public cascade; create schema public")
