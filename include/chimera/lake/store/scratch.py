"""Temporary folders that end with their process; a killed one's are removed at the next start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "chimera-{}-"
_KINDS = ("draft", "gate", "docs", "stage", "warm")
_YOUNG_SECONDS = 60  # a folder that was only just created may not be locked yet
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def scratch(kind: str) -> Iterator[str]:
    """Create a temporary folder, locked while its process lives, and remove it at the end.

    Args:
        kind: `draft`, `gate`, `docs`, `stage` or `warm`.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX.format(kind)) as folder:
        descriptor = os.open(folder, _FLAGS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(descriptor)


def sweep_scratch() -> int:
    """Remove this user's folders whose process is gone; return how many."""
    place = Path(tempfile.gettempdir())
    found = [folder for kind in _KINDS for folder in place.glob(_PREFIX.format(kind) + "*")]
    return sum(map(_remove_left, found))


def _remove_left(folder: Path) -> bool:
    # Suppressed: not a folder, not ours to open, removed meanwhile, or locked by a live process.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, _FLAGS)
        try:
            state = os.fstat(descriptor)
            if state.st_uid != os.geteuid() or state.st_mtime > time.time() - _YOUNG_SECONDS:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            return True
        finally:
            os.close(descriptor)
    return False
