"""List an hour's log files, each once however many names it has.

Others write these folders. A symbolic link is followed only to a target below the logs' root;
anything that is not a regular file is reported and never opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from include.chimera.errors import (
    ConfigurationError,
    SourceChangedError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

# A writer puts this marker into an hour's folder when it is done with it.
# Source: Hadoop's FileOutputCommitter, which Spark follows.
MARKER = "_SUCCESS"
LEAVES_ROOT, NOT_REGULAR = "link_leaves_root", "not_a_regular_file"
PACKED = ".gz"
_NAME = re.compile(r"\.jsonl(\.\d+)?(\.gz)?\Z")
_LOOKS = 10  # a rotation takes microseconds; if the folder never settles, something else is wrong
_BUFFER_BYTES = 64 * 1024
# So that no one can slip in a link between listing and opening, nor a pipe that blocks.
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_ODD = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class LogFile(NamedTuple):
    """One file of an hour, as listed.

    Args:
        root: The logs' root, with links resolved.
        path: The file's path when it was listed, with links resolved.
        name: Its path below the root as text, without `.gz`: compression changes no row.
        identity: Device and inode, which survive a rename.
        is_packed: Whether its name, or that of a link's target, ends in `.gz`.
        links: How many hard links it has.
        fault: Why it must not be opened, None if it may be.
    """

    root: Path
    path: Path
    name: str
    identity: tuple[int, int]
    is_packed: bool
    links: int
    fault: str | None = None


def log_root(root: str) -> Path:
    """Return the logs' root as a local path.

    Raises:
        ConfigurationError: The root is a URL.
    """
    if "://" in root:
        raise ConfigurationError(
            expected="a folder of this machine",
            came=f"a URL, {root.partition('://')[0]}://",
            where="CHIMERA_API_LOGS_ROOT",
            remedy="let a log shipper write below a folder, and set its path",
        )
    return Path(root)


def shown(name: str | Path) -> str:
    r"""Return a name as text that is safe in any log, file and terminal.

    Bytes that are not UTF-8 are escaped as `\xff`, control characters as `\u001b`, and backslashes
    are doubled.
    """
    return _ODD.sub(_escaped, str(name))


def _escaped(found: re.Match[str]) -> str:
    char = found.group()
    if char == "\\":
        return r"\\"
    byte = ord(char) - 0xDC00  # how Python represents a byte that is not UTF-8
    return rf"\x{byte:02x}" if 0x80 <= byte <= 0xFF else rf"\u{ord(char):04x}"  # noqa: PLR2004 - a byte


def hour_folder(root: Path, start: datetime) -> Path:
    """Return the folder of the files written in the hour that starts at `start` (UTC)."""
    return root / f"dt={start:%Y-%m-%d}" / f"hour={start:%H}"


def names_in(root: Path, start: datetime) -> list[str]:
    """Return the names in an hour's folder; [] if a listing shows that the folder is not there.

    Raises:
        SourceUnavailableError: The folder or a parent can't be listed, or leads out of the root.
    """
    folder = hour_folder(root, start)
    with _named(root):
        is_inside = _real(folder, strict=False).is_relative_to(_real(root))
    if not is_inside:
        raise SourceUnavailableError(
            expected=f"a folder below {shown(root)}",
            came="a link that leaves it",
            where=shown(folder),
            remedy="put the folder itself there, or mount it; no link out of the root is followed",
        )
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        place = root
        for part in folder.relative_to(root).parts:
            if part not in _listed(place):
                return []
            place /= part
        return _listed(folder)


def _listed(folder: Path) -> list[str]:
    with _named(folder):
        return sorted(path.name for path in folder.iterdir())


def log_files(root: Path, start: datetime) -> list[LogFile]:
    """Return the hour's files, sorted by name: `*.jsonl`, rotated (`.1`), packed (`.gz`).

    Raises:
        SourceUnavailableError: The folder can't be listed, or a file's status can't be read.
        SourceChangedError: Files keep being renamed.
    """
    found = _look(root, start)
    for _ in range(_LOOKS):
        before, found = found, _look(root, start)
        if before.items() <= found.items():  # else a file was renamed during the look-up
            # Links last, so that a file's own name wins.
            own = sorted(before.items(), key=lambda item: item[0] != item[1].path.name)
            files: dict[tuple[int, int], LogFile] = {}
            for _, file in own:
                files.setdefault(file.identity, file)
            return sorted(files.values())
    raise changed(hour_folder(root, start), "renamed again and again")


def unread_names(root: Path, start: datetime) -> list[str]:
    """Return the names in an hour's folder that are not log files, escaped by `shown`.

    Names that begin with a dot or an underscore, like `_SUCCESS`, are the writer's own and left
    out.

    Raises:
        SourceUnavailableError: As `names_in`.
    """
    names = (name for name in names_in(root, start) if name[0] not in "._")
    return [shown(name) for name in names if not _NAME.search(name)]


def _look(root: Path, start: datetime) -> dict[str, LogFile]:
    names = [name for name in names_in(root, start) if _NAME.search(name)]
    if not names:
        return {}
    folder = hour_folder(root, start)
    with _named(folder):
        real_root, real = _real(root), _real(folder)
        return {name: _file(real_root, real / name) for name in names}


def _file(root: Path, path: Path) -> LogFile:
    """Return the file of a path, following a link to its target."""
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except FileNotFoundError as error:
        raise changed(path, "removed") from error
    with _named(path):
        target = _real(path) if is_link else path
        status = target.stat()
    fault = None if stat.S_ISREG(status.st_mode) else NOT_REGULAR
    if not target.is_relative_to(root):
        target, fault = path, LEAVES_ROOT
    is_packed = PACKED in (path.suffix, target.suffix)
    plain = target.with_suffix("") if target.suffix == PACKED else target
    name = shown(plain.relative_to(root))
    identity = status.st_dev, status.st_ino
    return LogFile(root, target, name, identity, is_packed, status.st_nlink, fault)


def _real(path: Path, *, strict: bool = True) -> Path:
    return Path(os.path.realpath(path, strict=strict))  # Path.resolve has its own error for loops


@contextmanager
def opened(file: LogFile) -> Iterator[BinaryIO]:
    """Open a listed file, even if it was renamed within its folder since.

    Raises:
        SourceUnavailableError: The file can't be opened or read.
        SourceChangedError: The file is gone.
    """
    with _named(file.path), _find(file) as raw:
        yield raw


def written_at(file: LogFile) -> float:
    """Return when a file was last written, in seconds since 1970 (UTC).

    Raises:
        SourceUnavailableError: As `opened`.
    """
    with opened(file) as raw:
        return os.fstat(raw.fileno()).st_mtime


def _find(file: LogFile) -> BinaryIO:
    for path in _candidates(file):
        try:
            raw = _open(file.root, path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            continue
        status = os.fstat(raw.fileno())
        if (status.st_dev, status.st_ino) == file.identity and stat.S_ISREG(status.st_mode):
            return raw
        raw.close()
    raise changed(file.path, "removed")


def _candidates(file: LogFile) -> Iterator[Path]:
    yield file.path
    with os.scandir(file.path.parent) as entries:
        yield from (Path(entry.path) for entry in entries if entry.inode() == file.identity[1])


def _open(root: Path, path: Path) -> BinaryIO:
    """Open a path below the root folder by folder, following no link."""
    *folders, name = path.relative_to(root).parts
    place = os.open(root, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER, dir_fd=place)
            os.close(place)
            place = inner
        return os.fdopen(os.open(name, _FILE, dir_fd=place), "rb", buffering=_BUFFER_BYTES)
    finally:
        os.close(place)


def changed(path: Path, how: str) -> SourceChangedError:
    """Return the error for a file that changed while it was read."""
    return SourceChangedError(came=f"one that was {how}", where=shown(path))


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Translate the system's errors into ours, which name the place."""
    try:
        yield
    except OSError as error:
        raise SourceUnavailableError(
            expected="a folder or file of the API's logs that can be read",
            came=f"{type(error).__name__} ({os.strerror(error.errno or 0)})",
            where=shown(place),
            remedy="check that it is there (its disk mounted, a link's target in place) and that "
            "this user may list and read it; then clear this task",
        ) from error
