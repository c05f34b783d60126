"""The lake in a store whose keys are only in an Airflow connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from include.chimera.paths import PROJECT

pytestmark = pytest.mark.integration

TASK = """
from datetime import UTC, datetime
from types import SimpleNamespace

from include.chimera.flow.run_context import enter_run
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.dbt_plugin.materializations import Order
from include.chimera.lake.dbt_plugin.session import Session
from include.chimera.relation import Relation

enter_run(SimpleNamespace(run_type="manual", run_id="a_run", data_interval_start=None,
                          data_interval_end=None,
                          run_after=datetime(2026, 1, 1, 5, tzinfo=UTC)), {})
for query in ("select 1 as id", "select id + 1 as id from dev.model"):
    with connect() as connection:
        session = Session(None)
        session.attach(connection)
        session.catalog.show_named(query)
        connection.execute(f"create temp view rows_ as {query}")
        session.write(connection, Order(Relation("dev", "model"), "rows_", "all"))
        session.catalog.show_named("from dev.model")
        print(connection.execute("from dev.model").fetchall())
"""


def test_task_reads_and_writes_with_the_keys_of_a_connection(tmp_path, object_store):
    variables = object_store.new_lake()
    secret = variables["AWS_SECRET_ACCESS_KEY"]
    connection = {
        "conn_type": "aws",
        "login": variables["AWS_ACCESS_KEY_ID"],
        "password": secret,
        "extra": {
            "region_name": variables["AWS_REGION"],
            "endpoint_url": variables["AWS_ENDPOINT_URL"],
        },
    }
    environment = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_LAKE_STORE": json.dumps(connection),
        "CHIMERA_STATE_DIR": str(tmp_path),
        "CHIMERA_LAKE_ROOT": variables["CHIMERA_LAKE_ROOT"],
        "CHIMERA_STORE_CONNECTION": "lake_store",
    }
    task = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", TASK],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert task.returncode == 0, task.stderr
    assert [line for line in task.stdout.splitlines() if line.startswith("[(")] == [
        "[(1,)]",
        "[(2,)]",
    ]
    assert secret not in task.stdout + task.stderr
