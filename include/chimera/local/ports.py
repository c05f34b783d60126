"""Free ports on loopback."""

from __future__ import annotations

import fcntl
import socket
import tempfile
from pathlib import Path
from typing import IO

LOOPBACK = "127.0.0.1"
_claims: list[IO[str]] = []


def choose_port(preferred: int) -> int:
    """Return `preferred` if nobody listens there or is about to, else any free port.

    A server takes seconds to bind its port: until this process ends, no other start on this
    machine chooses the same one.
    """
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                found = int(probe.getsockname()[1])
                _claim(found)
            except OSError:
                continue
            return found
    return preferred


def _claim(port: int) -> None:
    """Hold the port's lock file until this process ends.

    Raises:
        OSError: Another process holds it.
    """
    file = (Path(tempfile.gettempdir()) / f"chimera-port-{port}.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    _claims.append(file)
