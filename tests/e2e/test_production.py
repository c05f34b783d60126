"""docs/production.md, followed to the first trusted hour, with sources that are nobody's demo.

A PostgreSQL that takes TLS alone, logs and lake in a bucket, a Prometheus behind TLS and a login.
Airflow is started by its own commands, in a clone of the project.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest

from include.chimera.demo.application import metrics_folder, seed
from include.chimera.lake.delta.tables import open_table
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.ports import choose_port
from include.chimera.settings import Settings
from include.chimera.window import HOUR, Window, floor_hour
from tests.e2e.airflow_alone import BIN, DAG, MINUTES, inherited, running, wait
from tests.e2e.clones import fresh_clone
from tests.integration.certificates import Authority
from tests.integration.ingest.servers import PostgresServer, needs_tls, tls_programs
from tests.integration.object_store import BUCKET, KEY, SECRET, lake_in
from tests.integration.prometheus import guarded, needs_prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.long, needs_tls, needs_prometheus]

ROLE = "include/chimera/sources/postgres/reader_role.sql"
WORD = "not-the-demo's"  # pragma: allowlist secret


@contextmanager
def own_database(authority):
    """Yield a PostgreSQL that nobody reaches but by TLS, and its port."""
    server, port = PostgresServer(tls_programs()), choose_port(0)
    try:
        pairs = zip(
            ("ssl_cert_file", "ssl_key_file"), authority.sign("server", "localhost"), strict=True
        )
        server.admit("hostssl all all 127.0.0.1/32 scram-sha-256")
        files = {name: server.keep(file) for name, file in pairs}
        server.start(listen_addresses="127.0.0.1", port=str(port), ssl="on", **files)
        yield server, port
    finally:
        server.remove()


class Deployment:
    """A clone of the project, and the variables that the page names."""

    def __init__(self, folder, **variables):
        self.clone = fresh_clone(folder / "chimera")
        self.port = choose_port(0)
        self.log = folder / "airflow.log"
        self.environment = {
            **inherited(),
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(self.clone),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.clone / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.clone / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{self.port}/execution/",
            **variables,
        }

    def run(self, *command):
        """Run a command as the page gives it; return its exit code and what it printed."""
        done = subprocess.run(  # noqa: S603 - our own command lines
            [BIN / command[0], *command[1:]],
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def must(self, *command):
        """Run a command that succeeds; return what it printed."""
        code, said = self.run(*command)
        assert code == 0, said
        return said

    def missing(self):
        """Return what the doctor finds missing."""
        _, said = self.run("python", "-m", "include.chimera", "doctor")
        return [line.split("  ")[0] for line in said.splitlines() if " MISSING " in line]


def test_the_page_leads_to_a_trusted_hour(tmp_path, object_store, monkeypatch):
    folder, workspace, authority = tmp_path / "user", tmp_path / "metrics", Authority(tmp_path)
    folder.mkdir()
    workspace.mkdir()
    now = floor_hour(datetime.now(UTC))
    hours = Window(now - 2 * HOUR, now + 2 * HOUR)  # what the sources have, as they go on meanwhile
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path / "state"))
    with own_database(authority) as (server, port), lake_in(object_store, monkeypatch) as root:
        logs = f"s3://{BUCKET}/{root.rpartition('/')[2]}_logs"
        sample = Settings(state_dir=tmp_path / "state", api_logs_root=logs, rows_per_hour=1000)
        seed(server.uri(), [hours], sample)
        airflow_db = f"postgres@/airflow?host={server.folder}&port={port}"
        deployment = Deployment(
            folder,
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"postgresql+psycopg2://{airflow_db}",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=f"postgresql+asyncpg://{airflow_db}",
            CHIMERA_LAKE_ROOT=root,
            CHIMERA_API_LOGS_ROOT=logs,
            CHIMERA_STORE_CONNECTION="lake_store",
        )
        with guarded(metrics_folder(sample), workspace, authority) as metrics:
            connections = {
                "app_db": {
                    "conn_type": "postgres",
                    "host": "localhost",
                    "port": port,
                    "schema": "postgres",
                    "login": "chimera_reader",
                    "password": WORD,
                    "extra": {"sslmode": "verify-full", "sslrootcert": str(authority.file)},
                },
                "prometheus": metrics,
                "lake_store": {
                    "conn_type": "aws",
                    "login": KEY,
                    "password": SECRET,
                    "extra": {"region_name": "us-east-1", "endpoint_url": object_store.url},
                },
            }
            follow(deployment, server, connections)
        assert_whole(server)


def follow(deployment, server, connections):
    """Do what the page says, step by step."""
    role = ["psql", server.uri(), "--file", deployment.clone / ROLE]
    subprocess.run(role, check=True)  # noqa: S603 - our own command line
    quoted = WORD.replace("'", "''")
    server.execute(f"alter role chimera_reader password '{quoted}'", "create database airflow")
    deployment.must("airflow", "db", "migrate")
    for name, fields in connections.items():
        deployment.must("airflow", "connections", "add", name, "--conn-json", json.dumps(fields))
    deployment.must("python", "-m", "include.chimera", "manifest")
    airflow = [f"{BIN}/airflow", "standalone"]
    where = {"cwd": deployment.clone, "env": deployment.environment}
    url = f"http://localhost:{deployment.port}"
    with running(airflow, deployment.log, **where), closing(AirflowApi(url)) as api:
        wait(api.is_up, MINUTES, deployment.log)
        wait(lambda: deployment.missing() == ["airflow: DAG"], 2, deployment.log)
        deployment.must("airflow", "dags", "unpause", DAG)
        wait(lambda: all_over(api.runs(DAG)), MINUTES, deployment.log)
        for run in api.runs(DAG):  # two, if an hour has ended meanwhile
            states = {task.task_id: task.state for task in api.tasks(DAG, run.run_id)}
            assert run.state == "success", states
        assert DAG in deployment.must("airflow", "dags", "list-runs", DAG)
        assert not deployment.must("python", "-m", "include.chimera", "gaps")
        deployment.must("python", "-m", "include.chimera", "doctor")


def all_over(runs):
    """Return whether there are runs, and none that works."""
    return bool(runs) and all(run.is_over for run in runs)


def assert_whole(server):
    """Each published row of the source is in the lake, as often as the ledger says."""
    ledger = open_table("ops.window_ledger").to_pyarrow_table().to_pylist()
    start = min(line["window_start"] for line in ledger)
    end = max(line["window_end"] for line in ledger)
    for table in ("generations", "evaluations"):
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                f"select count(*) from app.{table} "
                f"where updated_at >= '{start.isoformat()}' and updated_at < '{end.isoformat()}'"
            )
            ((expected,),) = cursor.fetchall()
        assert expected
        assert open_table(f"bronze.{table}").to_pyarrow_dataset().count_rows() == expected
    assert open_table("gold.fct_generations").to_pyarrow_dataset().count_rows()
