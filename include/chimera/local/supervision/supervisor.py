"""The supervisor's end: the lock on a state folder, and the line to its keeper."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import psutil

from include.chimera.errors import RetryableError, TerminalError
from include.chimera.local.private_files import make_private
from include.chimera.local.supervision import keeper
from include.chimera.local.supervision.processes import MARK, wait_until
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from include.chimera.local.layout import Layout
    from include.chimera.local.supervision.keeper import Program

_STOP_SECONDS = 30.0
_LOCK_SECONDS = 3.0


class StateLock:
    """The right to run servers on a state folder.

    An flock, so it ends with its last holder: the supervisor and, through an inherited descriptor,
    the keeper. Whoever gets it knows that both are gone.

    Raises:
        TerminalError: Another stack holds it.
    """

    def __init__(self, layout: Layout) -> None:
        make_private(layout.root)
        self.descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        # A stack that was killed a moment ago may hold it until its last process is gone.
        if not wait_until(self._is_taken, _LOCK_SECONDS):
            os.close(self.descriptor)
            raise TerminalError(
                expected="no other stack on this state folder",
                came="one that runs",
                where=str(layout.root),
                remedy="`make down` stops it; `make status` shows it",
            )

    def _is_taken(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give up this process's hold."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


class ServerDiedError(RetryableError):
    """A server ended that should run, or does not answer."""

    helps = "read that log"


class KeeperLine:
    """Starts a keeper and talks to it. `close` ends the keeper and all that it started."""

    def __init__(self, layout: Layout, lock: StateLock) -> None:
        self._layout = layout
        self._pids: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._events: queue.SimpleQueue[keeper.Event | None] = queue.SimpleQueue()
        self._is_gone = False
        self._is_closed = False
        self.is_detached = False
        requests, self._requests = os.pipe()
        with layout.server_log("keeper").open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603  # our own file
                [sys.executable, "-m", keeper.__name__, str(layout.root)],
                env={"PATH": os.defpath, MARK: str(layout.root)},
                cwd=PROJECT,
                stdin=requests,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.descriptor],
            )
        os.close(requests)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The keeper's own pid."""
        return self._popen.pid

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each program that was started."""
        return dict(self._pids)

    def _listen(self) -> None:
        with self._popen:  # waits for the keeper, too
            for line in self._popen.stdout or ():
                self._events.put(json.loads(line))
        self._events.put(None)

    def _take(self, seconds: float) -> None:
        """Note the events that came, waiting for the first one."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get(timeout=seconds)
                seconds = 0.0
                if event is None:
                    self._is_gone = True
                elif event["event"] == "started":
                    self._pids[event["name"]] = event["pid"]
                elif event["event"] == "exited":
                    self._codes[event["name"]] = event["code"]

    def _ask(self, request: str) -> None:
        try:
            os.write(self._requests, request.encode() + b"\n")
        except OSError:
            self._is_gone = True
            self.check()

    def start(self, program: Program) -> None:
        """Start a program; `check` tells later whether it still runs."""
        self._codes.pop(program.name, None)
        self._ask(json.dumps(asdict(program), default=str))

    def finish(self, program: Program, seconds: float) -> None:
        """Run a program to its end.

        Raises:
            ServerDiedError: It failed, or took longer than `seconds`.
        """
        self.start(program)
        self.wait(program.name, seconds)

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a program that was started ends well.

        Raises:
            ServerDiedError: It failed, or took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while name not in self._codes and time.monotonic() < deadline:
            self._take(0.2)
            self._check_keeper()
        code = self._codes.get(name)
        if code != 0:
            came = f"exit code {code}" if code is not None else f"no end within {seconds:.0f} s"
            raise self._died(name, came)
        del self._codes[name]
        self._pids.pop(name, None)

    def check(self) -> None:
        """Look whether all is well.

        Raises:
            ServerDiedError: A server ended, or the keeper did.
        """
        self._take(0.0)
        self._check_keeper()
        for name, code in self._codes.items():
            raise self._died(name, f"exit code {code}")

    def _check_keeper(self) -> None:
        if self._is_gone:
            raise self._died(name="keeper", came="its end (`make down`, or killed from outside)")

    def _died(self, name: str, came: str) -> ServerDiedError:
        log = self._layout.server_log(name)
        return ServerDiedError(
            expected=f"{name} to run",
            came=came,
            where=str(log),
            remedy=f"read the end of the log: {_last_words(log)}",
        )

    def detach(self) -> None:
        """Leave the keeper and its servers running after this process."""
        self._ask("null")
        self.is_detached = self._is_closed = True

    def close(self) -> None:
        """End the keeper and wait until it has stopped everything."""
        if self._is_closed:
            return
        self._is_closed = True
        os.close(self._requests)
        self._listener.join(_STOP_SECONDS)
        if self._listener.is_alive():
            self._popen.kill()
            self._listener.join()

    def processes(self) -> list[psutil.Process]:
        """Return the keeper and everything below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.pid)
            return [top, *top.children(recursive=True)]
        return []


def _last_words(log: Path, lines: int = 3) -> str:
    with contextlib.suppress(OSError):
        return " | ".join(log.read_text(errors="replace").splitlines()[-lines:]) or "it is empty"
    return "it is missing"
