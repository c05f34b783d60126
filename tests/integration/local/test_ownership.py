"""No process of a stack outlives its supervisor, whoever is killed, and the next start works."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import psycopg
import pytest

from include.chimera.cli.servers import down
from include.chimera.errors import TerminalError
from include.chimera.local.layout import Layout
from include.chimera.local.servers.postgres_server import APP_DATABASE, Postgres
from include.chimera.local.supervision.keeper import Program
from include.chimera.local.supervision.processes import find_marked, identity, sweep
from include.chimera.local.supervision.stackfile import read_stack
from include.chimera.local.supervision.supervisor import KeeperLine, ServerDiedError, StateLock
from include.chimera.paths import PROJECT
from include.chimera.settings import Settings

pytestmark = pytest.mark.integration

GONE_SECONDS = 20.0
# A server that does not want to end: it ignores SIGTERM, and so does the grandchild that it sends
# into a session and a process group of its own.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""
SUPERVISOR = """
import sys, time
from pathlib import Path
from include.chimera.local.supervision.processes import identity
from include.chimera.local.supervision.keeper import Program
from include.chimera.local.supervision.supervisor import KeeperLine, StateLock
from include.chimera.local.layout import Layout
from include.chimera.local.servers.postgres_server import Postgres
from include.chimera.local.supervision.stackfile import StackFile, note_stack

layout = Layout.of(Path(sys.argv[1]))
lock = StateLock(layout)
layout.make_folders()
line = KeeperLine(layout, lock)
postgres = Postgres(layout)
postgres.start(line)
line.start(Program("stubborn", [sys.executable, "-c", sys.argv[2]], {}))
while "stubborn" not in line.pids:
    line.check()
note_stack(layout, StackFile("run", line.pid, identity(line.pid), "", 0, "", line.pids))
print(line.pid, flush=True)
if sys.argv[3:]:
    line.detach()
else:
    time.sleep(600)
"""


@pytest.fixture
def layout(tmp_path):
    layout = Layout.of(tmp_path / "a state")
    yield layout
    sweep(layout, grace_seconds=1.0)


@contextlib.contextmanager
def supervised(layout, *arguments):
    """Start a supervisor with a stack; yield it and the keeper's pid once everything runs."""
    command = [sys.executable, "-c", SUPERVISOR, str(layout.root), STUBBORN, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}  # noqa: TID251
    with subprocess.Popen(  # noqa: S603  # our own command
        command,
        stdout=subprocess.PIPE,
        env=environment,
        cwd="/",
        # Under `nohup make test` a supervisor would ignore SIGHUP, as under `nohup make run`.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
    ) as supervisor:
        try:
            line = supervisor.stdout.readline()
            assert line, "the supervisor did not come up"
            time.sleep(0.5)
            yield supervisor, int(line)
        finally:
            supervisor.kill()


def wait_until_gone(layout):
    deadline = time.monotonic() + GONE_SECONDS
    while (left := find_marked(layout)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def kill(pid, *, wait=True):
    process = psutil.Process(pid)
    process.kill()
    if wait:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.wait(5)


@contextlib.contextmanager
def database(layout):
    """Start PostgreSQL on the state once more and connect to the application's database."""
    lock = StateLock(layout)
    layout.make_folders()
    line = KeeperLine(layout, lock)
    try:
        Postgres(layout).start(line)
        with psycopg.connect(Postgres(layout).uri(APP_DATABASE), autocommit=True) as connection:
            yield connection
    finally:
        line.close()
        lock.release()


def can_connect(layout):
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(Postgres(layout).uri(APP_DATABASE)).close()
        return True
    return False


def test_the_stack_runs_under_one_keeper(layout):
    with supervised(layout) as (_, keeper):
        marked = {process.pid for process in find_marked(layout)}
        tree = psutil.Process(keeper).children(recursive=True)
        if sys.platform == "linux":  # elsewhere orphans are not adopted, only marked
            assert {keeper, *(process.pid for process in tree)} == marked
        names = {process.name() for process in find_marked(layout)}
        assert "postgres" in names
        assert len(marked) >= 8, (
            "keeper, postmaster and its helpers, the stubborn one and its child"
        )


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_a_killed_supervisor_leaves_nothing_and_loses_nothing(layout, number):
    with supervised(layout) as (supervisor, _):
        with psycopg.connect(Postgres(layout).uri(APP_DATABASE), autocommit=True) as connection:
            connection.execute("create table kept as select 1 as n")
            connection.execute("checkpoint")
        supervisor.send_signal(number)
        wait_until_gone(layout)
    with database(layout) as connection:
        assert connection.execute("select n from kept").fetchall() == [(1,)]
    wait_until_gone(layout)


def test_a_killed_keeper_is_cleaned_up_after_by_down(layout):
    with supervised(layout) as (supervisor, keeper):
        kill(keeper)
        kill(supervisor.pid, wait=False)
        down(Settings(state_dir=layout.root))
        wait_until_gone(layout)
    with database(layout) as connection:
        assert connection.execute("select 1").fetchall() == [(1,)]


def test_a_keeper_killed_together_with_its_supervisor_leaves_nothing(layout):
    with supervised(layout) as (supervisor, keeper):
        kill(keeper, wait=False)
        kill(supervisor.pid, wait=False)
        wait_until_gone(layout)
    StateLock(layout).release()


def test_down_stops_a_detached_stack_and_may_be_repeated(layout):
    with supervised(layout, "detach") as (supervisor, keeper):
        assert supervisor.wait(10) == 0
    time.sleep(1.0)
    assert identity(keeper)
    for _ in range(2):
        down(Settings(state_dir=layout.root))
    assert identity(keeper) is None
    wait_until_gone(layout)


def test_what_ends_in_a_detached_stack_is_started_again_without_its_orphans(layout):
    """A killed server is back with another pid; the processes that it left are gone."""
    with supervised(layout, "detach") as (supervisor, _):
        supervisor.wait(10)
    before = read_stack(layout).pids
    stubborn = {
        process.pid for process in find_marked(layout) if "setsid" in "".join(process.cmdline())
    }
    assert len(stubborn) == 2, "itself and the grandchild that left its session"
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while any(map(psutil.pid_exists, stubborn)) or not can_connect(layout):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    after = read_stack(layout).pids
    assert {*before} == {*after}
    assert not {*before.values()} & {*after.values()}
    down(Settings(state_dir=layout.root))
    wait_until_gone(layout)


def test_a_second_stack_on_the_same_state_is_refused_until_the_first_has_ended(layout):
    with supervised(layout) as (supervisor, _):
        with pytest.raises(TerminalError, match="make down"):
            StateLock(layout)
        supervisor.kill()
        wait_until_gone(layout)
    StateLock(layout).release()


def test_a_server_that_ends_is_named_with_its_log(layout):
    lock = StateLock(layout)
    layout.make_folders()
    line = KeeperLine(layout, lock)
    try:
        program = [sys.executable, "-c", "import sys; sys.exit('out of luck')"]
        with pytest.raises(ServerDiedError, match=r"brief .*exit code 1.*brief\.log.*out of luck"):
            line.finish(Program("brief", program, {}), 10)
        with pytest.raises(ServerDiedError, match=r"absent .*FileNotFoundError"):
            line.finish(Program("absent", ["/no/such/program"], {}), 10)
    finally:
        line.close()
        lock.release()


def test_postgres_speaks_utf8_and_utc_and_listens_on_no_port(layout):
    with database(layout) as connection:
        settings = {
            name: connection.execute(f"show {name}").fetchone()[0]
            for name in ("server_encoding", "timezone", "listen_addresses", "fsync")
        }
    assert settings == {
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "listen_addresses": "",
        "fsync": "on",
    }
