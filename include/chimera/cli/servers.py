"""The commands `up`, `down`, `status`, `doctor` and `airflow`."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import psutil

from include.chimera.cli.conventions import print_json
from include.chimera.errors import ConfigurationError
from include.chimera.local.doctor import check_next_run, examine
from include.chimera.local.layout import Layout
from include.chimera.local.runs.planning import plan_start
from include.chimera.local.runs.progress import Progress
from include.chimera.local.servers.airflow_api import AirflowApi
from include.chimera.local.servers.environment import keep_passwords, sample_sources
from include.chimera.local.servers.sample_application import demo_sample
from include.chimera.local.servers.stack import SCHEDULED, Stack
from include.chimera.local.supervision.processes import (
    find_marked,
    memory_bytes,
    memory_kind,
    send,
    sweep,
    wait_until,
)
from include.chimera.local.supervision.stackfile import read_stack
from include.chimera.local.supervision.supervisor import StateLock
from include.chimera.observe.findings import Finding
from include.chimera.observe.terminal import make_console
from include.chimera.window import HOUR, Window, floor_hour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.local.supervision.stackfile import StackFile
    from include.chimera.settings import Settings

_DOWN_SECONDS = 30.0
_MIB = 1 << 20
QUIET = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
"""Lets Airflow's commands say what they were asked for."""


def up(settings: Settings) -> None:
    """Start everything, from the last full hour on, and leave it running."""
    layout = Layout.of(settings.state_dir)
    running = read_stack(layout)
    if running and running.is_alive and running.mode == "up":
        status(settings)
        return
    lock = StateLock(layout)
    last = floor_hour(datetime.now(UTC)) - HOUR
    # The sample application has no rows of before; of their own sources people miss each hour.
    is_sample = bool(sample_sources(os.environ))  # noqa: TID251 - the caller's
    begin = {"CHIMERA_START_DATE": last.isoformat()} if is_sample else {}
    plan = plan_start(layout, settings, begin, reparse_seconds=30)
    with Progress(make_console()) as progress, Stack(plan, lock, progress.say) as stack:
        hours = [Window(last, last + 2 * HOUR)]
        stack.start(demo_sample(settings, hours, plan, progress.say), "up")
        progress.say("waiting for the DAGs to be parsed")
        for dag_id in SCHEDULED:
            stack.wait_for_dag(dag_id)
        stack.start_feeder()
        for dag_id in SCHEDULED:
            stack.api.set_paused(dag_id, is_paused=False)
        stack.detach("up")
    status(settings)


def down(settings: Settings) -> None:
    """Stop everything that runs on the state folder, if anything does."""
    layout, console = Layout.of(settings.state_dir), make_console()
    running = read_stack(layout)
    stopped = running is not None and running.is_alive
    if running and stopped:
        console.print("stopping Airflow, then PostgreSQL")
        send([psutil.Process(running.keeper_pid)], signal.SIGTERM)
        wait_until(lambda: not running.is_alive, _DOWN_SECONDS)
    left = sweep(layout)
    layout.stack_file.unlink(missing_ok=True)
    console.print("stopped" if stopped or left else "nothing was running")


def airflow(settings: Settings, words: list[str]) -> NoReturn:
    """Become Airflow's command line, with the running servers' environment.

    Raises:
        ConfigurationError: No scheduler runs on the state folder.
    """
    environment = scheduler_environment(settings)
    if not environment:
        raise ConfigurationError(
            expected="Airflow running on this state folder",
            came="no scheduler that runs",
            where=str(Layout.of(settings.state_dir).root),
            remedy="`make up` starts it",
        )
    os.execve(sys.executable, [sys.executable, "-m", "airflow", *words], environment)  # noqa: S606 - our own


def scheduler_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of the scheduler that runs on the state folder; {}: none does."""
    running = read_stack(Layout.of(settings.state_dir))
    try:
        pid = running.pids["scheduler"] if running and running.is_alive else None
        environment = psutil.Process(pid).environ() if pid else {}
    except (KeyError, psutil.Error):
        environment = {}
    return environment and environment | QUIET


def status(settings: Settings, *, as_json: bool = False) -> bool:
    """Show what runs; return whether anything does.

    JSON tells no password: programs keep what they read.
    """
    layout, console = Layout.of(settings.state_dir), make_console()
    running = read_stack(layout)
    if not running or not running.is_alive:
        left = find_marked(layout)
        if as_json:
            print_json({"is_running": False, "state": str(layout.root), "left_over": len(left)})
            return False
        console.print(f"nothing is running on {layout.root}", soft_wrap=True)
        if left:
            console.print(f"{len(left)} processes of a killed stack remain: `make down` ends them")
        return False
    top = psutil.Process(running.keeper_pid)
    processes = [top, *top.children(recursive=True)]
    servers, size = _servers(running, layout), memory_bytes(processes)
    if as_json:
        told = {"is_running": True, "mode": running.mode, "started_at": running.started_at}
        places = {"state": str(layout.root), "url": running.url, "logs": str(layout.logs)}
        print_json({**told, **places, "servers": servers, "memory_bytes": size})
        return True
    console.rule(f"Running since {running.started_at} ({running.mode})", align="left")
    for name, text in (*servers.items(), ("logs", layout.logs)):
        console.print(f"{name:<16} {text}", soft_wrap=True)
    memory = f"{size / _MIB:,.0f} MiB in {len(processes)} processes"
    console.print(f"{'memory':<16} {memory} ({memory_kind()})")
    console.print(f"{'UI':<16} {running.url}")
    for user, password in keep_passwords(layout).items():
        console.print(f"{'user ' + user:<16} password {password}")
    console.print(f"{'application':<16} psql '{running.app_db_uri}'", soft_wrap=True)
    console.print(f"{'metrics':<16} http://127.0.0.1:{running.metrics_port}")
    console.print(f"{'stop it':<16} make down")
    return True


def doctor(settings: Settings, *, as_json: bool, send: bool) -> bool:
    """Show, one by one, what each check finds; return whether all is as it should be.

    The checks of Airflow, sources, lake and channels need its environment: that of the servers that
    run here, else the one that this process was started with.
    """
    environment, given = scheduler_environment(settings), os.environ  # noqa: TID251 - Airflow's
    if environment and environment["AIRFLOW_HOME"] != given.get("AIRFLOW_HOME"):
        again = [sys.executable, "-m", "include.chimera", *sys.argv[1:]]
        os.execve(sys.executable, again, environment)  # noqa: S606 - our own
    has_airflow = any(name.startswith("AIRFLOW_") for name in given)
    quiet = QUIET | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    given.update(quiet, _AIRFLOW_PROCESS_CONTEXT="server")  # the latter: may ask its database
    console, is_well = make_console(), True
    for finding in _findings(settings, has_airflow=has_airflow, send=send):
        is_well &= finding.is_kept
        if as_json:
            print_json(finding)
            continue
        mark = "ok" if finding.is_kept else "MISSING"
        console.print(f"{finding.check:<24} {mark:<8} {finding.text}", soft_wrap=True)
        if finding.remedy:
            console.print(f"{'':<24} {'Next:':<8} {finding.remedy}", soft_wrap=True)
    return is_well


def _findings(settings: Settings, *, has_airflow: bool, send: bool) -> Iterator[Finding]:
    yield from examine(settings)
    if not has_airflow:
        text = "nothing runs here, and no variable of Airflow's is set"
        remedy = "make up, or run this where the scheduler runs"
        yield Finding("airflow", is_kept=False, text=text, remedy=remedy)
        return
    from include.chimera.flow.doctor import examination  # noqa: PLC0415 - loads Airflow

    yield from examination.examine(send=send)


def _servers(running: StackFile, layout: Layout) -> dict[str, str]:
    """Return the state of each server, and whether the next run has its deadline."""
    alive = {name for name, pid in running.pids.items() if psutil.pid_exists(pid)}
    api = AirflowApi(running.url, "admin", keep_passwords(layout)["admin"])
    health = api.health() if api.is_up() else {}
    found = {}
    for name in running.pids:
        told = health.get(name.replace("-", "_"), {}).get("status")
        state = "runs" if name in alive else f"HAS ENDED: see {layout.server_log(name)}"
        found[name] = f"{state}{f', {told}' if told else ''}"
    if health:
        found["deadline"] = check_next_run(api).text
    api.close()
    return found
