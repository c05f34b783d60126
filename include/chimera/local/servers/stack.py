"""Start all servers in the right order, and stop them all.

First PostgreSQL, and Celery's broker if there are workers; then, in parallel, the schema of
Airflow's metadata and the sample application's rows; then Airflow's four components, the workers
and the sample application's metrics. The DAG stays paused; the caller unpauses it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.components import (
    airflow_programs,
    airflow_version,
    migrate_program,
    read_pools,
)
from include.chimera.local.servers.environment import (
    SOURCES,
    ServerPlan,
    build_environment,
    keep_passwords,
    keep_secrets,
    own_sources,
    sample_sources,
)
from include.chimera.local.servers.postgres_server import APP_DATABASE, Postgres
from include.chimera.local.supervision.keeper import Program
from include.chimera.local.supervision.processes import identity, sweep, wait_until
from include.chimera.local.supervision.stackfile import StackFile, note_stack
from include.chimera.local.supervision.supervisor import (
    KeeperLine,
    ServerDiedError,
    StateLock,
)
from include.chimera.local.workers.broker import start_broker
from include.chimera.local.workers.celery_workers import worker_program
from include.chimera.operations.dbt_manifest import is_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from include.chimera.local.layout import Layout
    from include.chimera.local.supervision.stackfile import Mode

DAG_ID = "chimera_etl_hourly"
SCHEDULED = (DAG_ID, "chimera_maintenance", "chimera_reconcile_daily")
_MIGRATE_SECONDS = 300.0
_READY_SECONDS = 600.0  # a busy machine; a server that ends is told at once
_PARSE_SECONDS = 600.0


@dataclass(frozen=True)
class SampleApplication:
    """The sample application's part in a stack.

    Args:
        seed: Fills the application's database, logs and metrics; takes the database's URI.
        metrics: Command line of the metrics server after `python`.
    """

    seed: Callable[[str], None]
    metrics: list[str]


class Stack:
    """The servers of one state folder, as a context manager that stops everything at its end.

    Inside, `line` is the connection to the keeper, and `api` answers once `start` has returned.

    Args:
        plan: The choices of this start.
        lock: The lock on the state folder, which the stack takes over.
        say: Shows a line of progress.
    """

    def __init__(self, plan: ServerPlan, lock: StateLock, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.layout: Layout = plan.layout
        self._lock = lock
        self._say = say
        self._postgres = Postgres(self.layout)
        self.line: KeeperLine
        self.api: AirflowApi
        self._inherited = dict(os.environ)  # noqa: TID251  # children inherit the caller's
        self._started_at = datetime.now(UTC)

    def __enter__(self) -> Self:
        """Clean up after an earlier stack that was killed, and start the keeper."""
        left = sweep(self.layout)
        if left:
            self._say(f"ended what an interrupted run had left: {', '.join(left)}")
        self.layout.make_folders()
        for log in self.layout.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.1"))
        self.api = AirflowApi(self.plan.url, "admin", keep_passwords(self.layout)["admin"])
        self.line = KeeperLine(self.layout, self._lock)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, unless the stack was detached."""
        self.api.close()
        if not self.line.is_detached:
            self.line.close()
            sweep(self.layout)
            self.layout.stack_file.unlink(missing_ok=True)
        self._lock.release()

    @property
    def app_db_uri(self) -> str:
        """The libpq URI of the sample application's database."""
        return self._postgres.uri(APP_DATABASE)

    def start_database(self) -> None:
        """Start PostgreSQL alone, which is enough to fill the sample application."""
        self._say("starting PostgreSQL")
        self._postgres.start(self.line)

    def start(self, sample: SampleApplication, mode: Mode) -> None:
        """Start everything and return when Airflow's API answers.

        Raises:
            ServerDiedError: A server did not start.
        """
        started = time.monotonic()
        self.start_database()
        secrets = keep_secrets(self.layout)
        if self.plan.settings.workers:
            self._say("starting Redis")
            start_broker(self.layout, self.line, self.plan.broker_port, secrets.broker_password)
        env = build_environment(self.plan, secrets, self._inherited)
        migration = self._begin_migration(env)
        self._start_sample(sample, env)
        self._build_manifest(env)
        if migration:
            self._say("waiting for Airflow's metadata database")
            self.line.wait(migration.name, _MIGRATE_SECONDS)
            self.layout.schema_stamp.write_text(airflow_version())
        self._postgres.pause_dag(DAG_ID)
        self._say("starting Airflow: API server, scheduler, DAG processor, triggerer")
        for program in airflow_programs(env):
            self.line.start(program)
        self._note(mode)
        self._wait_for_api()
        for program in self.workers(env):
            self.line.start(program)
        self.api.set_pools(read_pools(self.plan.settings))
        self._note(mode)
        self._say(f"Airflow answers at {self.plan.url} after {time.monotonic() - started:.0f} s")

    def _start_sample(self, sample: SampleApplication, env: dict[str, str]) -> None:
        """Start the sample application for the sources that are not the caller's own."""
        sampled = sample_sources(self._inherited)
        for source, name in own_sources(self._inherited).items():
            self._say(f"{source}: yours, from {name}; the sample application is not started for it")
        if sampled:
            sample.seed(self.app_db_uri)
        if "prometheus" in sampled:
            self.line.start(Program("metrics", [sys.executable, *sample.metrics], env))

    def workers(self, env: dict[str, str]) -> list[Program]:
        """Return the programs of Celery's workers; none: the scheduler runs the tasks."""
        numbers = range(1, self.plan.settings.workers + 1)
        return [worker_program(self.layout, number, env) for number in numbers]

    def _begin_migration(self, env: dict[str, str]) -> Program | None:
        stamp = self.layout.schema_stamp
        if stamp.exists() and stamp.read_text() == airflow_version():
            return None
        program = migrate_program(env)
        self.line.start(program)
        return program

    def _build_manifest(self, env: dict[str, str]) -> None:
        if not is_fresh():
            self._say("building dbt's manifest")
            command = [sys.executable, "-m", "include.chimera", "manifest"]
            self.line.finish(Program("manifest", command, env), _MIGRATE_SECONDS)

    def _note(self, mode: Mode) -> None:
        keeper, plan = self.line.pid, self.plan
        places = (plan.url, plan.metrics_port, self.app_db_uri)
        started = identity(keeper) or 0.0
        note_stack(self.layout, StackFile(mode, keeper, started, *places, self.line.pids))

    def _wait_for_api(self) -> None:
        def is_up() -> bool:
            self.line.check()
            return self.api.is_up()

        if not wait_until(is_up, _READY_SECONDS, 0.3):
            raise ServerDiedError(
                expected="Airflow's API",
                came=f"no answer in {_READY_SECONDS:.0f} s",
                where=str(self.layout.server_log("api-server")),
            )

    def check(self) -> None:
        """Check that all servers run and all DAG files can be imported.

        Raises:
            ServerDiedError: A server ended.
            ConfigurationError: A DAG file can't be imported.
        """
        self.line.check()
        errors = [error for error in self.api.import_errors() if error.timestamp > self._started_at]
        if errors:
            raise ConfigurationError(
                expected="DAG files that can be imported",
                came=f"{len(errors)} that can't:\n{errors[0].stack_trace.strip()}\n",
                where=", ".join(error.filename for error in errors),
                remedy="correct the file and run again",
            )

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until this start's DAG processor has parsed the DAG.

        Raises:
            ConfigurationError: A DAG file can't be imported, or none holds the DAG.
        """

        def is_parsed() -> bool:
            self.check()
            parsed_at = self.api.parsed_at(dag_id)
            return parsed_at is not None and parsed_at > self._started_at

        if not wait_until(is_parsed, _PARSE_SECONDS, 0.5):
            raise ConfigurationError(
                expected=f"the DAG {dag_id} within {_PARSE_SECONDS:.0f} s",
                came="no such DAG",
                where=str(self.plan.dags_folder),
                remedy=f"read {self.layout.server_log('dag-processor')}",
            )

    def start_feeder(self) -> None:
        """Start the feeder, which makes the sample application's future hours."""
        env = build_environment(self.plan, keep_secrets(self.layout), self._inherited)
        module = "include.chimera.local.servers.feeder"
        argv = [sys.executable, "-m", module, "--app-db", self.app_db_uri]
        if sample_sources(self._inherited):
            # Logs of its own root: made-up lines must not get among the caller's.
            self.line.start(Program("feeder", argv, {**env, SOURCES["api_logs"]: ""}))

    def detach(self, mode: Mode) -> None:
        """Leave the stack running after this process."""
        self.check()
        self._note(mode)
        self.line.detach()
