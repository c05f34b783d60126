"""Environments for peers whose pins are not ours: in `.chimera/bench-<name>`, made on first use."""

from __future__ import annotations

import subprocess
import sys
import venv
from typing import TYPE_CHECKING

from include.chimera.paths import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence


def peer_python(name: str, *wanted: Sequence[str]) -> str | None:
    """Return the interpreter of a peer's environment; None where it can't be installed.

    Args:
        name: Of the peer.
        wanted: Arguments of `pip install`, one call each.
    """
    folder = STATE / f"bench-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    for arguments in wanted:
        command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:  # noqa: S603 - fixed
            return None
    return str(python)
