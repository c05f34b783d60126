"""Two starts at the same time must not choose the same port."""

import random
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from include.chimera.errors import ConfigurationError
from include.chimera.local.servers import ports
from include.chimera.local.servers.ports import LOOPBACK, choose_port
from include.chimera.paths import PROJECT


def free_port() -> int:
    """Return an unused port outside the range for processes that ask for any port."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    pytest.fail("a hundred ports are taken")


def test_a_port_that_somebody_listens_on_is_not_chosen() -> None:
    """If the usual port is taken, another one is found."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert choose_port(port) not in {0, port}


def test_a_chosen_port_is_not_chosen_by_another_start() -> None:
    """A server needs seconds to bind, so the choice itself claims the port."""
    port = free_port()
    assert choose_port(port) == port
    script = (
        f"from include.chimera.local.servers.ports import choose_port; print(choose_port({port}))"
    )
    other = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert int(other.stdout) not in {0, port}


def test_claims_leave_nothing_that_others_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a predictable name could be planted, or already belong to somebody else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    port = free_port()
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / f"chimera-port-{port}.lock").symlink_to(precious)
    precious.chmod(0o400)
    assert choose_port(port) == port
    assert precious.read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 2


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another start has claimed is never returned, even if no other is free."""
    monkeypatch.setattr(ports, "_claim", Mock(side_effect=OSError))
    with pytest.raises(ConfigurationError, match="a free port"):
        choose_port(free_port())
