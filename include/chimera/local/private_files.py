"""Files and folders that only their owner can enter, read or change."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

# Only root can write to the first, so nobody plants files there and no service cleans it up.
_PLACES = ("/var/lib", tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108  # names are random


def make_private(folder: Path) -> None:
    """Make a folder private to its owner, creating it if needed; parents are not changed.

    A folder shared by design, with the sticky bit as in /tmp, is not changed either.

    Raises:
        ConfigurationError: The folder belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            expected="a folder of our own",
            came=f"one of user {found.st_uid}",
            where=str(folder),
            remedy="run as that user, or name another folder by CHIMERA_STATE_DIR",
        )
    if not found.st_mode & stat.S_ISVTX:
        folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner can read."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


def is_open_to_all(folder: Path) -> bool:
    """Can any user pass through the folder and all its parents?"""
    return all(p.stat().st_mode & stat.S_IXOTH for p in (folder, *folder.parents))


def allows_programs(folder: Path) -> bool:
    """Can another user start a program below the folder?"""
    return is_open_to_all(folder) and not os.statvfs(folder).f_flag & os.ST_NOEXEC


def make_outside(is_good: Callable[[Path], bool]) -> Path:
    """Make a new private folder, with a name that nobody can guess, in a suitable place.

    Raises:
        ConfigurationError: No place is suitable and writable.
    """
    for place in map(Path, _PLACES):
        try:
            if is_good(place):
                return Path(tempfile.mkdtemp(prefix="chimera-", dir=place))
        except OSError:
            continue
    raise ConfigurationError(
        expected="a folder with a short, plain name for a socket, and for root one where all users "
        "may start programs",
        came="none that can be written to",
        where=", ".join(_PLACES),
        remedy="set TMPDIR to such a folder, or run as another user than root",
    )
