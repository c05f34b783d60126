"""Free ports on loopback."""

from __future__ import annotations

import socket

from include.chimera.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
_ATTEMPTS = 50


def choose_port(preferred: int) -> int:
    """Return `preferred` if no process listens there or is about to, else any free port.

    A server takes seconds to bind its port. Until this process ends, no other start on this
    machine, by any user, chooses the same port.

    Raises:
        ConfigurationError: No port is free.
    """
    for port in (preferred, *[0] * _ATTEMPTS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                found = int(probe.getsockname()[1])
                _claim(found)
            except OSError:
                continue
            return found
    raise ConfigurationError(
        expected="a free port",
        came=f"none in {_ATTEMPTS} attempts",
        where=LOOPBACK,
        remedy="stop what listens on so many ports",
    )


def _claim(port: int) -> None:
    """Hold the UDP port of the same number until this process ends, however it ends.

    Our servers use only TCP, so a UDP port can serve as a lock. Unlike a lock file, it can't be
    left over or planted.

    Raises:
        OSError: Another process holds it.
    """
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((LOOPBACK, port))
    except OSError:
        claim.close()
        raise
    claim.detach()  # keep it open until the process ends: no garbage collection may close it
