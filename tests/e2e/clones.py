"""A fresh clone of the project, with what is not committed yet."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from pathlib import Path


def fresh_clone(place: Path) -> Path:
    """Copy the files that git knows, or would add, to a new folder; return it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git
        cwd=PROJECT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, place / name)
    assert not (place / ".env").exists()
    return place
