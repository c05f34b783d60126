"""Free ports on loopback."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

LOOPBACK = "127.0.0.1"


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
    """Hold the port's lock file until this process ends and the system closes it.

    Raises:
        OSError: Another process holds it.
    """
    path = Path(tempfile.gettempdir()) / f"chimera-port-{port}.lock"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
