"""The supervisor's side: the lock on a state folder, and the connection to its keeper."""

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
    """The lock that allows running servers on a state folder.

    It is an flock, so it ends with its last holder: the supervisor or, through an inherited
    descriptor, the keeper. A process that gets it knows that both are gone.

    Raises:
        TerminalError: Another stack holds the lock.
    """

    def __init__(self, layout: Layout) -> None:
        make_private(layout.root)
        self.descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        # A stack that was just killed may hold it until its last process is gone.
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
        """Release this process's hold on the lock."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


class ServerDiedError(RetryableError):
    """A server has ended that should run, or does not answer."""

    helps = "read that log"


class KeeperLine:
    """Starts a keeper and talks to it. `close` ends the keeper and all its programs."""

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
        """The pid of each started program, by name."""
        return dict(self._pids)

    def _listen(self) -> None:
        with self._popen:  # waits for the keeper, too
            for line in self._popen.stdout or ():
                self._events.put(json.loads(line))
        self._events.put(None)

    def _take(self, seconds: float) -> None:
        """Process the events that arrived; wait for the first one."""
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
        """Start a program; `check` later checks that it still runs."""
        self._codes.pop(program.name, None)
        self._ask(json.dumps(asdict(program), default=str))

    def finish(self, program: Program, seconds: float) -> None:
        """Run a program until it ends.

        Raises:
            ServerDiedError: It failed, or took longer than `seconds`.
        """
        self.start(program)
        self.wait(program.name, seconds)

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a started program ends with success.

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
        """Check that the keeper and all servers run.

        Raises:
            ServerDiedError: A server or the keeper ended.
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
        """Stop the keeper, and wait until it has stopped everything."""
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
