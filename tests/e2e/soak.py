"""The days of `test_soak.py`: what runs, what breaks, what is mended."""

import random
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import psutil
import psycopg
import pytest

from include.chimera.cli.servers import down
from include.chimera.errors import ChimeraError
from include.chimera.local.servers.stack import DAG_ID
from include.chimera.local.supervision.processes import memory_bytes
from include.chimera.local.supervision.stackfile import read_stack
from include.chimera.window import HOUR, Window

START = datetime(2026, 3, 2, tzinfo=UTC)
RUN_SECONDS = 900.0
SEED = 20261124
DAY = 24  # hours
FAULTS = (
    *("worker", "scheduler", "triggerer", "database", "outage", "deployment", "slack"),
    *("bad_rows", "bad_batch", "supervisor", "api_server"),
)
TASK = re.compile(r"airflow worker -- [0-9a-f-]{36}")  # Airflow's title of a task's own process


@dataclass(frozen=True)
class Measure:
    """The stack between two runs.

    Args:
        hour: The number of the hour that ended.
        mib: Memory of all processes, shared pages counted once each, in MiB.
        files: Open files and sockets of all processes.
        processes: How many there are.
        connections: Of all clients to PostgreSQL.
        log_kib: What the hour added to the logs of servers and tasks, in KiB.
    """

    hour: int
    mib: int
    files: int
    processes: int
    connections: int
    log_kib: int


class Soak:
    """Runs the days, breaks things, and measures.

    Args:
        duty: The stack.
        hours: How many hours are due.
        say: Shows a line.
        kinds: Which faults, one an hour, each once a day.
    """

    def __init__(self, duty, hours, say, kinds=FAULTS):
        self.duty, self.hours, self.say, self.kinds = duty, hours, say, kinds
        self.dice = random.Random(SEED)  # noqa: S311 - not a secret
        self.measured, self.mended = [], []
        self.logs = {}  # sizes by inode: a restart renames a server's log, and drops an older one

    def end(self, name, number=signal.SIGKILL):
        pids = read_stack(self.duty.stack.layout).pids
        psutil.Process(pids[name]).send_signal(number)

    def processes(self):
        return self.duty.stack.line.processes()

    def task(self):
        """Return a process in which a task runs."""
        deadline = time.monotonic() + 60
        while not (running := [p for p in self.processes() if TASK.search(title(p))]):
            assert time.monotonic() < deadline, "no task ran for a minute"
            time.sleep(0.2)
        return self.dice.choice(running)

    def worker(self):
        self.task().kill()

    def supervisor(self):
        """Kill the executor's worker that looks after a task."""
        self.task().parent().kill()

    def scheduler(self):
        self.end("scheduler")

    def triggerer(self):
        self.end("triggerer")

    def api_server(self):
        self.end("api-server")

    def database(self):
        """Stop PostgreSQL fast, under everybody's feet."""
        self.end("postgres", signal.SIGINT)

    def outage(self):
        """Stop everything; the hours go on being due meanwhile."""
        down(self.duty.settings)
        self.duty.restart()
        self.begin()

    def begin(self):
        """Let the keeper look after the servers, as `make up` does, and the hours run."""
        self.duty.stack.detach("up")
        self.duty.stack.api.set_paused(DAG_ID, is_paused=False)

    def deployment(self):
        """Change the DAG's file while a run of it works."""
        with (self.duty.stack.plan.dags_folder / "chimera_etl_hourly.py").open("a") as file:
            file.write("\n# deployed again\n")

    def slack(self):
        self.duty.slack.is_down = True

    def execute(self, statement):
        with psycopg.connect(self.duty.stack.app_db_uri, autocommit=True) as database:
            database.execute(statement)

    def bad_rows(self, window):
        """Make one row of the hour bad: too few to fail the gate."""
        self.execute(
            "update app.generations set status = 'refunded' where generation_id = (select "
            f"generation_id from app.generations where {within(window)} limit 1)"
        )

    def bad_batch(self, window):
        """Make all evaluations of the hour bad: their gate fails."""
        self.execute(f"update app.evaluations set successes = -1 where {within(window)}")

    def mend(self, run):
        """Do what the alert says: mend the source, clear what stages it and what comes after."""
        failed = [t for t, s in self.duty.states(DAG_ID, run.run_id).items() if s == "failed"]
        self.mended.append((run.run_id, failed))
        hour = Window(run.window_start, run.window_start + HOUR)
        self.execute(f"update app.evaluations set successes = was where {within(hour)}")
        task = "extract_evaluations"
        self.duty.reset(DAG_ID, run.run_id, task, include_downstream=True)

    def measure(self, number):
        """Note what the stack holds between two runs."""
        files, alive = 0, self.processes()
        for process in alive:
            with suppress(psutil.Error):
                files += process.num_fds()
        before, found = self.logs, self.duty.stack.layout.logs.rglob("*")
        self.logs = {s.st_ino: s.st_size for s in (f.stat() for f in found if f.is_file())}
        grown = sum(max(size - before.get(inode, 0), 0) for inode, size in self.logs.items())
        self.measured.append(
            Measure(
                number,
                memory_bytes(alive) >> 20,
                files,
                len(alive),
                self.connections(),
                grown >> 10,
            )
        )

    def connections(self):
        with psycopg.connect(self.duty.stack.app_db_uri) as database:
            (count,) = database.execute(
                "select count(*) from pg_stat_activity where backend_type = 'client backend'"
            ).fetchone()
        return count - 1

    def plan(self):
        """Return the fault of each hour that has one: each kind once a day, but at its ends."""
        found = {}
        for first in range(0, self.hours, DAY):
            free = range(first + 2, min(first + DAY, self.hours) - 2)
            chosen = self.dice.sample(free, min(len(self.kinds), len(free)))
            found |= dict(zip(chosen, self.kinds, strict=False))
        return found

    def run(self):
        """Let all hours run, with one fault in each of some; return the faults by hour."""
        plan = self.plan()
        self.execute("alter table app.evaluations add column was int")
        self.execute("update app.evaluations set was = successes")
        for number, kind in plan.items():
            if kind.startswith("bad_"):
                getattr(self, kind)(Window.of_hour(START + number * HOUR))
        self.begin()
        for number in range(self.hours):
            run = self.started(number)
            kind = plan.get(number, "")
            if kind and not kind.startswith("bad_"):
                time.sleep(self.dice.uniform(3, 12))
                getattr(self, kind)()
            run = self.ended(run)
            self.say(f"{number:2} {kind:<10} {run.state} after {run.end_at - run.start_at}")
            if run.state == "failed":
                self.mend(run)
                assert self.ended(run).state == "success"
            self.duty.slack.is_down = False
            self.measure(number)
            self.say(f"   {self.measured[-1]}")
        return plan

    def started(self, number):
        """Wait until the run of an hour works."""
        wanted = START + number * HOUR
        return self.until(
            lambda: next(
                (
                    run
                    for run in self.duty.stack.api.runs(DAG_ID)
                    if run.window_start == wanted and run.start_at
                ),
                None,
            )
        )

    def ended(self, run):
        def over():
            found = self.duty.stack.api.run(DAG_ID, run.run_id)
            return found if found.is_over else None

        return self.until(over)

    def until(self, found):
        """Return the first true answer, whatever is down meanwhile."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, httpx.HTTPError, ChimeraError):
                answer = found()
                if answer:
                    return answer
            time.sleep(0.5)
        pytest.fail("no end within the run's time")


def title(process):
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def within(window):
    start, end = window.start.isoformat(), window.end.isoformat()
    return f"updated_at >= '{start}' and updated_at < '{end}'"
