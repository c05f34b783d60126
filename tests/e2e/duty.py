"""A running stack with both channels, as the engineer on call has it; minutes are seconds."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from include.chimera.local.layout import Layout
from include.chimera.local.runs.planning import hour_variables, plan_start
from include.chimera.local.servers.sample_application import demo_sample
from include.chimera.local.servers.stack import DAG_ID, SampleApplication, Stack
from include.chimera.local.supervision.supervisor import StateLock
from include.chimera.paths import PROJECT
from include.chimera.settings import Settings
from include.chimera.window import HOUR, Window
from tests.e2e.peers import Inbox, mail_server, slack_server
from tests.versions import Versions

BASE, DEADLINE, WAIT = 2.0, 6.0, 12.0
# A run in which a process was killed may need its heartbeat's timeout, five minutes by default.
_QUICK_DEATHS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
}


@dataclass
class Duty:
    """A running stack with its peers."""

    stack: Stack
    slack: Inbox
    mail: Inbox
    settings: Settings
    sample: SampleApplication
    versions: Versions

    def restart(self):
        """Stop everything, and start it again on the same state, without filling the sample."""
        self.stack.__exit__()
        sample = replace(self.sample, seed=lambda _: None)
        self.stack = start_stack(self.stack.plan, sample, type(self.stack))

    def request(self, method, path, **body):
        return self.stack.api._request(method, path, json=body or None)

    def trigger(self, dag_id, **conf):
        body = {"logical_date": None, "conf": conf}
        return self.request("POST", f"/dags/{dag_id}/dagRuns", **body)["dag_run_id"]

    def wait(self, dag_id, run_id, seconds=180.0):
        deadline = time.monotonic() + seconds
        while not (run := self.stack.api.run(dag_id, run_id)).is_over:
            self.stack.check()
            assert time.monotonic() < deadline, run
            time.sleep(0.5)
        return run

    def tries(self, dag_id, run_id, task_id):
        """Return a task's attempts, oldest first."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/tries"
        found = self.request("GET", path)["task_instances"]
        return sorted(found, key=lambda each: each["try_number"])

    def reset(self, dag_id, run_id, task_id, **more):
        """Clear a task."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id]}
        body |= {"only_failed": False, **more}
        self.request("POST", f"/dags/{dag_id}/clearTaskInstances", **body)

    def clear(self, dag_id, run_id, task_id, **more):
        """Clear a task and wait for the run's end."""
        self.reset(dag_id, run_id, task_id, **more)
        return self.wait(dag_id, run_id)

    def command(self, *words, **variables):
        """Run `python -m include.chimera` on this stack's lake; return its exit code and output."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CHIMERA_")}  # noqa: TID251  # a child inherits
        done = subprocess.run(  # noqa: S603  # our own command
            [sys.executable, "-m", "include.chimera", *words],
            cwd=PROJECT,
            env={
                **inherited,
                "CHIMERA_STATE_DIR": str(self.settings.state_dir),
                "COLUMNS": "160",
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    def states(self, dag_id, run_id):
        return {task.task_id: task.state for task in self.stack.api.tasks(dag_id, run_id)}


def newest_busy_hour(now):
    """Return the newest hour of the sample's peak that ended two hours ago or earlier.

    The sample has two and a half times as many rows at 15 h UTC as at 3 h: with an hour that the
    clock chooses, a drill would meet other counts at other times of the day.
    """
    peak = now.replace(hour=15, minute=0, second=0, microsecond=0)
    return Window.of_hour(peak if peak + 3 * HOUR <= now else peak - timedelta(days=1))


@contextmanager
def on_duty(  # noqa: PLR0913 - each has its own meaning
    root, hours=None, scheduled=None, workers=0, kind=Stack, *, clone=None, **more
):
    """Start the stack in a folder, with the drills beside the hourly DAG.

    Args:
        root: An empty folder.
        hours: The sample's hours; default: the newest one of its busiest.
        scheduled: What the schedule covers; default: the first of these hours.
        workers: How many Celery workers.
        kind: The class of the stack.
        clone: A copy of the project that the servers run; default: this one, with copied DAGs.
        more: CHIMERA_ variables beside the usual ones.
    """
    code = clone or root / "code"
    if clone is None:
        pycache = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / "dags", code / "dags", ignore=pycache)
    else:  # the servers begin in this project's folder, which must not come first
        more |= {"PYTHONPATH": str(clone), "PYTHONSAFEPATH": "1"}
    shutil.copy(PROJECT / "tests/e2e/drill_dag.py", code / "dags/drill.py")
    layout = Layout.of(root / "state")
    layout.make_folders()
    settings = Settings(state_dir=layout.root, rows_per_hour=1000, workers=workers)
    hours = hours or [newest_busy_hour(datetime.now(UTC))]
    with slack_server() as (url, slack), mail_server() as (port, mail):
        variables = {
            **hour_variables(scheduled or hours[0]),
            **_QUICK_DEATHS,
            "CHIMERA_RETRY_BASE_SECONDS": str(BASE),
            "CHIMERA_DEADLINE_SECONDS": str(DEADLINE),
            "CHIMERA_DEAD_LETTERS_ALERT": "0",
            "CHIMERA_SOURCE_WAIT_SECONDS": str(WAIT),
            "CHIMERA_ALERT_EMAILS": "oncall@example.com",
            "AIRFLOW_CONN_SLACK_WEBHOOK": json.dumps(
                {"conn_type": "slackwebhook", "password": url}
            ),
            "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(
                {
                    "conn_type": "smtp",
                    "host": "127.0.0.1",
                    "port": port,
                    "extra": {
                        "disable_ssl": True,
                        "disable_tls": True,
                        "from_email": "chimera@example.com",
                    },
                }
            ),
            **more,
        }
        plan = plan_start(layout, settings, variables, 600, code)
        object.__setattr__(plan, "plugins_folder", (clone or PROJECT) / "plugins")
        sample = demo_sample(settings, hours, plan, print)
        stack = start_stack(plan, sample, kind)
        duty = Duty(stack, slack, mail, settings, sample, Versions())
        try:
            yield duty
        except AssertionError:
            sys.stdout.write("\n\n".join(text for _, text in slack.taken))  # it names the causes
            raise
        finally:
            duty.stack.__exit__()
    duty.versions.add(layout.root / "lake")
    duty.versions.check()


def start_stack(plan, sample, kind=Stack):
    """Start a stack and wait for its DAGs; whoever asked for it ends it."""
    stack = kind(plan, StateLock(plan.layout), print).__enter__()
    try:
        stack.start(sample, "run")
        stack.wait_for_dag(DAG_ID)
        stack.wait_for_dag("drill")
    except BaseException:
        stack.__exit__()
        raise
    return stack
