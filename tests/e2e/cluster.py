"""Celery workers that share no folder, as on machines of their own, and how one of them is lost."""

import signal
from contextlib import contextmanager, suppress
from dataclasses import replace
from uuid import uuid4

import psutil
from pyarrow import fs

from include.chimera.lake.delta.tables import lake_tables
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of, forget
from include.chimera.local.servers.environment import NOTICE, build_environment, keep_secrets
from include.chimera.local.servers.stack import DAG_ID, Stack
from include.chimera.local.supervision.processes import send, wait_until
from include.chimera.local.supervision.supervisor import ServerDiedError
from tests.e2e.duty import on_duty
from tests.integration.object_store import BUCKET, forget_settings

AS_IN_PRODUCTION = {
    **{f"AIRFLOW__{name}": value for name, value in NOTICE.items()},
    "CHIMERA_RETRY_BASE_SECONDS": "60",
    "CHIMERA_DEADLINE_SECONDS": "600",
}
"""Against the short times of `on_duty`."""
WORKERS = 2
# Where a task stops in each worker, until the worker is lost.
STEPS = {"worker-1": "publish.committed=stop", "worker-2": "build.rows_written=stop"}
_STOP_SECONDS = 300.0


class Cluster(Stack):
    """A stack whose workers can be lost."""

    def lose(self, name):
        """Kill a worker's whole process tree and start it anew, once a task has come to its step.

        Returns:
            What Airflow knows of the tasks that had stopped there.
        """
        worker = psutil.Process(self.line.pids[name])
        assert wait_until(lambda: halted(worker), _STOP_SECONDS, 0.2), f"{name} met no step"
        pids = {process.pid for process in halted(worker)}
        path = f"/dags/{DAG_ID}/dagRuns/~/taskInstances"
        running = self.api._request("GET", path, params={"state": "running", "limit": 100})
        send([worker, *worker.children(recursive=True)], signal.SIGKILL)
        with suppress(ServerDiedError):
            self.line.wait(name, 30)
        env = build_environment(self.plan, keep_secrets(self.layout), self._inherited)
        (program,) = (each for each in Stack.workers(self, env) if each.name == name)
        self.line.start(program)
        return [task for task in running["task_instances"] if task["pid"] in pids]


class StoppingCluster(Cluster):
    """A cluster each of whose workers stops tasks at a step of its own."""

    def workers(self, env):
        return [
            replace(program, env={**program.env, "CHIMERA_FAULT_POINT": STEPS[program.name]})
            for program in super().workers(env)
        ]


def halted(worker):
    """Return the processes of a worker that have been stopped."""
    found = []
    for process in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [process] if process.status() == psutil.STATUS_STOPPED else []
    return found


@contextmanager
def on_cluster(root, hours, scheduled, store, monkeypatch, **more):
    """Start two workers that meet in an object store alone; this process reads its lake.

    Args:
        root: An empty folder.
        hours: The sample's hours.
        scheduled: What the schedule covers.
        store: The object store.
        monkeypatch: pytest's, for this process's environment.
        more: The class of the stack, `kind`, and variables beside the usual ones.
    """
    logs = f"{BUCKET}/{uuid4().hex}"
    places = {
        **store.new_lake(),
        "CHIMERA_API_LOGS_ROOT": f"s3://{logs}/api_logs",
        "CHIMERA_TASK_LOGS_ROOT": f"s3://{logs}/tasks",
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{logs}/tasks",
    }
    with on_duty(
        root, hours, scheduled, workers=WORKERS, **AS_IN_PRODUCTION, **places, **more
    ) as duty:
        written = duty.stack.layout.api_logs
        fs.copy_files(
            str(written), f"{logs}/api_logs", fs.LocalFileSystem(), store.files(), use_threads=False
        )
        with monkeypatch.context() as patch:
            for name, value in places.items():
                patch.setenv(name, value)
            forget_settings()
            yield duty
        forget_settings()
        forget()
        assert not duty.stack.layout.lake.exists()


def rows_by_table():
    """Return the rows of each silver and gold table of this process's lake."""
    forget()
    with connect() as connection:
        return {
            str(table): connection.execute(
                f"from delta_scan('{folder_of(table)}') order by all"
            ).fetchall()
            for table in lake_tables()
            if table.schema in {"silver", "gold"}
        }
