"""Containers without a Docker engine: buildah's chroots, each in a network namespace of its own.

Each has an address on one bridge, and finds the others by name, in /etc/hosts. Needs root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import psutil
import pytest

from tests.e2e.astro.stand_in_image import buildah

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

_NETWORK = "10.203.77"
_BRIDGE = f"chi{os.getpid() % 100_000}"  # 15 characters at most, with what is added to it
_END_SECONDS = 10.0


class Network:
    """The network of the services, as a context manager that ends every process in it.

    Args:
        names: Names by service; the first service has the first address.
        workspace: Folder for the file of hosts and the logs.
    """

    def __init__(self, names: Mapping[str, Iterable[str]], workspace: Path) -> None:
        self.workspace = workspace
        self.addresses = {name: f"{_NETWORK}.{10 + index}" for index, name in enumerate(names)}
        self.hosts = workspace / "hosts"
        lines = [f"{self.addresses[name]} {' '.join(known)}" for name, known in names.items()]
        self.hosts.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
        self._containers: list[str] = []
        self._stopped = Event()
        self._keepers: list[Thread] = []

    def __enter__(self) -> Self:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for index, (name, address) in enumerate(self.addresses.items()):
            space, outer, inner = self._space(name), f"{_BRIDGE}o{index}", f"{_BRIDGE}i{index}"
            _ip("netns", "add", space)
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space)
            _ip("link", "set", outer, "master", _BRIDGE, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", inner)
            _ip("-n", space, "link", "set", inner, "up")
            _ip("-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for name in self.addresses:
            self.end(name)
        for keeper in self._keepers:
            keeper.join(_END_SECONDS)
        for container in self._containers:
            with suppress(AssertionError):
                buildah("rm", container)
        for name in self.addresses:
            _ip("netns", "delete", self._space(name))
        _ip("link", "delete", _BRIDGE)

    def _space(self, name: str) -> str:
        return f"{_BRIDGE}-{name}"

    def log(self, name: str) -> Path:
        """Return the file of what a service says."""
        return self.workspace / f"{name}.log"

    def container(self, image: str) -> str:
        """Return a new container of an image."""
        made = buildah("from", "--pull-never", image).strip()
        self._containers.append(made)
        return made

    def inside(
        self,
        name: str,
        container: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        mounts: Iterable[tuple[Path, str]],
    ) -> list[str]:
        """Return the command line that runs a command in a container, as its service."""
        pairs = [*mounts, (self.hosts, "/etc/hosts")]
        options = [f"--volume={source}:{target}" for source, target in pairs]
        options += [f"--env={key}={value}" for key, value in environment.items()]
        # Without --no-hosts buildah mounts hosts of its own, too: now and then above these.
        run = ["buildah", "run", "--isolation", "chroot", "--network", "host", "--no-hosts"]
        run += options
        return [*self.beside(name), *run, container, "--", *command]

    def beside(self, name: str) -> list[str]:
        """Return what runs a command on this machine with the network of a service."""
        return ["nsenter", f"--net=/run/netns/{self._space(name)}"]

    def keep(self, name: str, command: Sequence[str]) -> None:
        """Run a command, again whenever it ends, as `restart: unless-stopped` does."""

        def again() -> None:
            with self.log(name).open("ab") as log:
                while not self._stopped.is_set():
                    subprocess.run(  # noqa: S603 - fixed arguments
                        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False
                    )
                    self._stopped.wait(2)

        self._keepers.append(Thread(target=again, daemon=True))
        self._keepers[-1].start()

    def until(self, is_so: Callable[[], bool], minutes: float = 10) -> None:
        """Wait; fail with the ends of all logs if it takes too long."""
        deadline = time.monotonic() + 60 * minutes
        while not is_so():
            if time.monotonic() > deadline:
                logs = sorted(self.workspace.glob("*.log"))
                ends = [f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs]
                pytest.fail("\n".join(ends))
            time.sleep(1)

    def end(self, name: str) -> None:
        """End every process of a service: by SIGTERM, then by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _END_SECONDS
            while (pids := self._pids(name)) and time.monotonic() < deadline:
                for pid in pids:
                    with suppress(psutil.NoSuchProcess):
                        psutil.Process(pid).send_signal(number)
                time.sleep(0.5)

    def _pids(self, name: str) -> list[int]:
        return [int(line) for line in _ip("netns", "pids", self._space(name)).split()]


def _ip(*arguments: str) -> str:
    command = ["ip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
