"""Two starts at the same time must not choose the same port."""

import socket
import subprocess
import sys

from include.chimera.local.ports import LOOPBACK, choose_port
from include.chimera.paths import PROJECT


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_chosen() -> None:
    """The usual port is taken: another one is found."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert choose_port(port) not in {0, port}


def test_a_chosen_port_is_not_chosen_by_another_start() -> None:
    """A server needs seconds to bind: the choice itself is a claim."""
    port = free_port()
    assert choose_port(port) == port
    script = f"from include.chimera.local.ports import choose_port; print(choose_port({port}))"
    other = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert int(other.stdout) not in {0, port}
