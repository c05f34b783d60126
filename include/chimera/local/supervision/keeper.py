"""The keeper: the parent of every server of a stack, and nothing else.

`python -m include.chimera.local.supervision.keeper STATE` reads one request per line of JSON from
standard input and writes one event per line to standard output. Its standard input is a pipe that
only the supervisor holds: when the supervisor ends, however it ends, the pipe closes, and the
keeper stops all servers and exits. After a `detach` it runs until SIGTERM, and restarts servers
that end. On Linux it adopts orphans of its servers, so that the tree below it is always the whole
stack, and servers get a signal if the keeper is killed.

    {"name": …, "argv": […], …}     a `Program` to start; null: detach
    {"event": "started", "name": …, "pid": …}      {"event": "exited", "name": …, "code": …}

A guard, forked at the start, waits for the keeper's end. If the keeper is killed (SIGKILL), the
guard ends the processes that it left. Imports here are light, so that both processes stay small.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import psutil

from include.chimera.local.layout import Layout
from include.chimera.local.supervision.processes import MARK, send, sweep, wait_until
from include.chimera.local.supervision.stackfile import note_pid
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_CHILD_SUBREAPER = 36  # Source: linux/prctl.h
_TICK_SECONDS = 0.2
# The first signal lets Airflow's components finish a task or a trigger, the second ends them now.
_PATIENCE_SECONDS = (2.0, 3.0)
_KILL_SECONDS = 5.0
_REVIVE_SECONDS = 5.0  # least time between two starts of a server


@dataclass(frozen=True)
class Program:
    """A program for the keeper to start.

    Args:
        name: Its name, also of its log.
        argv: Program and arguments.
        env: Its whole environment, without the mark.
        stop_signal: The signal for an orderly stop.
        last: Whether to stop it after all others, e.g. a database.
        launch_options: Options of `launch.py`, such as the user.
        cwd: Its working folder.
    """

    name: str
    argv: list[str]
    env: Mapping[str, str]
    stop_signal: int = signal.SIGTERM
    last: bool = False
    launch_options: list[str] = field(default_factory=list)
    cwd: Path = PROJECT


class Event(TypedDict, total=False):
    """A message from the keeper to the supervisor."""

    event: Literal["started", "exited", "stopped", "detached"]
    name: str
    pid: int
    code: int
    error: str


@dataclass
class _Server:
    """A program that was started.

    Args:
        started: When it started, on the monotonic clock.
        code: Its exit code, as in `subprocess`; None: it is running.
    """

    popen: subprocess.Popen[bytes]
    program: Program
    started: float
    code: int | None = None


class Keeper:
    """Starts, reaps and stops servers."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._servers: dict[str, _Server] = {}
        self._spared: set[int] = set()
        self._pending = b""
        self._is_detached = False
        self._is_asked_to_stop = False

    def run(self) -> None:
        """Serve requests until the pipe ends or SIGTERM comes, then stop everything."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        guard = Guard(self._layout)
        self._spared = {guard.pid}
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # sent by terminals; we rely on the pipe instead
        try:
            while not self._is_asked_to_stop and self._serve_once():
                self._reap()
                if self._is_detached and not self._is_asked_to_stop:
                    self._revive()
        finally:
            self._stop()
            self._layout.remove_outside()
            guard.dismiss()
            self._tell(event="stopped")

    def _ask_to_stop(self, *_: object) -> None:
        self._is_asked_to_stop = True

    def _serve_once(self) -> bool:
        """Wait a tick for requests and answer them; False: the supervisor is gone."""
        if self._is_detached:
            time.sleep(_TICK_SECONDS)
            return True
        readable, _, _ = select.select([0], [], [], _TICK_SECONDS)
        if not readable:
            return True
        data = os.read(0, 1 << 16)
        if not data:
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._answer(line)
        return True

    def _answer(self, line: bytes) -> None:
        request = json.loads(line)
        if request is None:
            self._detach()
            return
        program = Program(**request)
        try:
            self._start(program)
        except OSError as error:
            self._tell(event="exited", name=program.name, code=127, error=str(error))

    def _detach(self) -> None:
        self._is_detached = True
        # Don't restart programs that have finished their work, such as a migration.
        self._servers = {k: v for k, v in self._servers.items() if v.code != 0}
        self._tell(event="detached")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)

    def _start(self, program: Program) -> None:
        launch = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
        options = [*program.launch_options, "--die-with-parent", str(program.stop_signal), "--"]
        with self._layout.server_log(program.name).open("ab") as log:
            popen = subprocess.Popen(  # noqa: S603  # our own supervisor asks
                [*launch, *options, *program.argv],
                env={**program.env, MARK: str(self._layout.root)},
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._servers[program.name] = _Server(popen, program, time.monotonic())
        self._tell(event="started", name=program.name, pid=popen.pid)

    def _tell(self, **event: Unpack[Event]) -> None:
        with contextlib.suppress(OSError):  # the reader may be gone
            os.write(1, json.dumps(event).encode() + b"\n")

    def _reap(self) -> None:
        """Collect each child that ended, adopted orphans included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for name, server in self._servers.items():
                if server.popen.pid == pid:
                    server.code = server.popen.returncode = os.waitstatus_to_exitcode(status)
                    self._tell(event="exited", name=name, code=server.code)

    def _revive(self) -> None:
        """Restart servers that ended, after killing the processes that they left."""
        for name, server in [*self._servers.items()]:
            if server.code is not None and time.monotonic() > server.started + _REVIVE_SECONDS:
                self._kill({s.popen.pid for s in self._servers.values() if s.code is None})
                server.started = time.monotonic()
                with contextlib.suppress(OSError):  # e.g. out of memory: try again later
                    self._start(server.program)
                    note_pid(self._layout, name, self._servers[name].popen.pid)

    def _stop(self) -> None:
        """Stop all servers, then the processes that they left, then the servers marked `last`."""
        for last in (False, True):
            group = [s for s in self._servers.values() if s.program.last is last]
            for seconds in _PATIENCE_SECONDS:
                self._signal(group)
                self._wait(group, seconds)
            spared = [s for s in self._servers.values() if s.program.last and s.code is None]
            self._kill({s.popen.pid for s in spared if not last})

    def _signal(self, servers: list[_Server]) -> None:
        for server in servers:
            if server.code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server.popen.pid, server.program.stop_signal)

    def _wait(self, servers: list[_Server], seconds: float) -> None:
        def have_ended() -> bool:
            self._reap()
            return all(server.code is not None for server in servers)

        wait_until(have_ended, seconds, _TICK_SECONDS / 4)

    def _kill(self, spared: set[int]) -> None:
        """Kill all processes below the keeper, except these children and theirs.

        Processes that a server left, such as a scheduler's workers, are now the keeper's children.
        """

        def are_gone() -> bool:
            self._reap()
            left = [p for p in psutil.Process().children() if p.pid not in self._spared | spared]
            for child in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    send([*child.children(recursive=True), child], signal.SIGKILL)
            return not left

        wait_until(are_gone, _KILL_SECONDS, _TICK_SECONDS / 4)


class Guard:
    """A child of the keeper that cleans up if the keeper is killed.

    It inherits the lock on the state folder, so no other stack starts there before it is done.
    """

    def __init__(self, layout: Layout) -> None:
        waiting, self._line = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(waiting)
            return
        try:
            os.close(self._line)
            self._wait(waiting, layout)
        finally:
            os._exit(0)

    def _wait(self, waiting: int, layout: Layout) -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):  # open copies of the pipes would hide the keeper's end
            os.dup2(null, descriptor)
        if not os.read(waiting, 1):
            sweep(layout)

    def dismiss(self) -> None:
        """Tell the guard that no clean-up is needed, and wait for its end."""
        os.write(self._line, b".")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


if __name__ == "__main__":
    Keeper(Layout(Path(sys.argv[1]))).run()
