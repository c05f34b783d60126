"""Which log files an hour has: proven by a listing, and each once whatever names it has.

What stands in the folder is written by others. A link is read as its target, below the logs' root
only; what is no regular file is named and never opened.
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

# A writer that marks an hour's folder says that it is done with it.
# Source: Hadoop's FileOutputCommitter, which Spark follows.
MARKER = "_SUCCESS"
LEAVES_ROOT, NOT_REGULAR = "link_leaves_root", "not_a_regular_file"
PACKED = ".gz"
_NAME = re.compile(r"\.jsonl(\.\d+)?(\.gz)?\Z")
_LOOKS = 10  # a rotation takes microseconds; a folder that never settles is another fault
_BUFFER_BYTES = 64 * 1024
# Nobody can put a link under our feet between the look and the opening, nor a pipe that waits.
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_ODD = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class LogFile(NamedTuple):
    """One file of an hour as it was listed.

    Args:
        root: The logs' root, no link in it.
        path: Where it stood, no link in it.
        name: Its path below the root as text, without `.gz`: packing changes no row.
        identity: Device and inode, which stay when it is renamed.
        is_packed: Whether it is called a gzip file.
        links: How many names it has.
        fault: Why it must not be opened, None where it may.
    """

    root: Path
    path: Path
    name: str
    identity: tuple[int, int]
    is_packed: bool
    links: int
    fault: str | None = None


def log_root(root: str) -> Path:
    """Return the logs' root as a folder of this machine.

    Raises:
        ConfigurationError: It is a URL.
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
    r"""Return a name as text that any log, file and terminal takes.

    Bytes that are no UTF-8 become `\xff`, control characters `\u001b`, a backslash two.
    """
    return _ODD.sub(_escaped, str(name))


def _escaped(found: re.Match[str]) -> str:
    char = found.group()
    if char == "\\":
        return r"\\"
    byte = ord(char) - 0xDC00  # how Python keeps a byte that is no UTF-8
    return rf"\x{byte:02x}" if 0x80 <= byte <= 0xFF else rf"\u{ord(char):04x}"  # noqa: PLR2004 - a byte


def hour_folder(root: Path, start: datetime) -> Path:
    """Return the folder of the files that are written in the hour from `start` (UTC) on."""
    return root / f"dt={start:%Y-%m-%d}" / f"hour={start:%H}"


def names_in(root: Path, start: datetime) -> list[str]:
    """Return the names in an hour's folder; none only where its place was listed and lacks it.

    Raises:
        SourceUnavailableError: The folder, or one above it, can't be listed or leads elsewhere.
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
        SourceUnavailableError: The folder can't be listed, or a file not be looked at.
        SourceChangedError: Files are renamed again and again.
    """
    found = _look(root, start)
    for _ in range(_LOOKS):
        before, found = found, _look(root, start)
        if before.items() <= found.items():  # else a rename came while names were looked up
            # A link after the files: a file's own name counts.
            own = sorted(before.items(), key=lambda item: item[0] != item[1].path.name)
            files: dict[tuple[int, int], LogFile] = {}
            for _, file in own:
                files.setdefault(file.identity, file)
            return sorted(files.values())
    raise changed(hour_folder(root, start), "renamed again and again")


def unread_names(root: Path, start: datetime) -> list[str]:
    """Return what stands in an hour's folder and is not read for its name, shown.

    A name that begins with a dot or an underscore is a writer's own, as `_SUCCESS` is.

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
    """Look at a name; a link is its target."""
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
    return Path(os.path.realpath(path, strict=strict))  # Path.resolve has its own error for a loop


@contextmanager
def opened(file: LogFile) -> Iterator[BinaryIO]:
    """Open the file that was listed, wherever in its folder it was renamed to since.

    Raises:
        SourceUnavailableError: It can't be opened or read.
        SourceChangedError: It is not there any more.
    """
    with _named(file.path), _find(file) as raw:
        yield raw


def written_at(file: LogFile) -> float:
    """Return when a file that this user may read was last written, as seconds since 1970.

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
    """Open a path below the root step by step, following no link."""
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
    """Return the error of a file that did not stay as it was."""
    return SourceChangedError(came=f"one that was {how}", where=shown(path))


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Turn the system's errors into ours, which name the place."""
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
