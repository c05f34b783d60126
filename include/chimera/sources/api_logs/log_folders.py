"""List an hour's log files in a local folder, each once however many names it has.

Others write these folders. A symbolic link is followed only to a target below the logs' root;
anything that is not a regular file is reported and never opened.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from include.chimera.errors import ConfigurationError, SourceUnavailableError
from include.chimera.lake.store.storage import s3_client
from include.chimera.sources.api_logs.log_files import (
    LEAVES_ROOT,
    NOT_REGULAR,
    PACKED,
    HourFolder,
    LogFile,
    changed,
    hour_path,
    is_log,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from include.chimera.sources.api_logs.log_files import LogRoot

_LOOKS = 10  # a rotation takes microseconds; if the folder never settles, something else is wrong
_BUFFER_BYTES = 64 * 1024
# So that no one can slip in a link between listing and opening, nor a pipe that blocks.
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def log_root(place: str, client: Any = None) -> LogRoot:  # noqa: ANN401 - boto3 has no types
    """Return the root of the logs.

    Args:
        place: A local folder, or `s3://<bucket>/<folder>`.
        client: The boto3 client of the store that holds a bucket; None: the lake's.

    Raises:
        ConfigurationError: The place is another URL, or one without a bucket.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return LocalRoot(Path(place))
    bucket, _, folder = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigurationError(
            expected="a local folder or s3://<bucket>/<folder>",
            came=f"a URL, {scheme}://{shown(bucket)}",
            where="CHIMERA_API_LOGS_ROOT",
            remedy="set it to where a log shipper writes the API's logs",
        )
    from include.chimera.sources.api_logs.log_buckets import (  # noqa: PLC0415 - boto3 takes 0.3 s
        BucketRoot,
    )

    return BucketRoot(client or s3_client(), bucket, folder.rstrip("/"))


@dataclass(frozen=True)
class LocalRoot:
    """Logs in a folder of this machine."""

    root: Path

    def hour(self, start: datetime) -> HourFolder:
        """List the folder of an hour, as `LogRoot` says."""
        folder = self.root / hour_path(start)
        names, found = self._names(folder), self._look(folder)
        for _ in range(_LOOKS):
            before, found = found, self._look(folder)
            if before.items() <= found.items():  # else a file was renamed during the look-up
                # Links last, so that a file's own name wins.
                own = sorted(before.items(), key=lambda item: item[0] != item[1].path.name)
                files: dict[object, LocalFile] = {}
                for _, file in own:
                    files.setdefault(file.identity, file)
                by_path = sorted(files.values(), key=lambda file: file.path)
                return HourFolder(shown(folder), names, list(by_path))
        raise changed(shown(folder), "renamed again and again")

    def _names(self, folder: Path) -> list[str]:
        """Return the names in a folder; [] if a listing shows that the folder is not there."""
        with _named(self.root):
            is_inside = _real(folder, strict=False).is_relative_to(_real(self.root))
        if not is_inside:
            raise SourceUnavailableError(
                expected=f"a folder below {shown(self.root)}",
                came="a link that leaves it",
                where=shown(folder),
                remedy="put the folder itself there, or mount it; no link out of the root is "
                "followed",
            )
        try:
            return sorted(path.name for path in folder.iterdir())
        except OSError:
            place = self.root
            for part in folder.relative_to(self.root).parts:
                if part not in _listed(place):
                    return []
                place /= part
            return _listed(folder)

    def _look(self, folder: Path) -> dict[str, LocalFile]:
        names = [name for name in self._names(folder) if is_log(name)]
        if not names:
            return {}
        with _named(folder):
            real_root, real = _real(self.root), _real(folder)
            return {name: _file(real_root, real / name) for name in names}


def _listed(folder: Path) -> list[str]:
    with _named(folder):
        return sorted(path.name for path in folder.iterdir())


def _file(root: Path, path: Path) -> LocalFile:
    """Return the file of a path, following a link to its target."""
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except FileNotFoundError as error:
        raise changed(shown(path), "removed") from error
    with _named(path):
        target = _real(path) if is_link else path
        status = target.stat()
    fault = None if stat.S_ISREG(status.st_mode) else NOT_REGULAR
    if not target.is_relative_to(root):
        target, fault = path, LEAVES_ROOT
    plain = target.with_suffix("") if target.suffix == PACKED else target
    return LocalFile(
        place=shown(target),
        name=shown(plain.relative_to(root)),
        identity=(status.st_dev, status.st_ino),
        size=status.st_size,
        is_packed=PACKED in (path.suffix, target.suffix),
        links=status.st_nlink,
        fault=fault,
        root=root,
        path=target,
    )


def _real(path: Path, *, strict: bool = True) -> Path:
    return Path(os.path.realpath(path, strict=strict))  # Path.resolve has its own error for loops


@dataclass(frozen=True, kw_only=True)
class LocalFile(LogFile):
    """A file in a local folder.

    Args:
        root: The logs' root, with links resolved.
        path: The file's path when it was listed, with links resolved.
    """

    identity: tuple[int, int]
    root: Path
    path: Path

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file, even if it was renamed within its folder since."""
        with _named(self.path), self._find() as raw:
            yield raw
            if os.fstat(raw.fileno()).st_size < raw.tell():
                raise changed(self.place, "truncated")

    def written_at(self) -> float:
        """Return when the file was last written, in seconds since 1970 (UTC)."""
        with self.opened() as raw:
            return os.fstat(raw.fileno()).st_mtime

    def _find(self) -> BinaryIO:
        for path in self._candidates():
            try:
                raw = _open(self.root, path)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                continue
            status = os.fstat(raw.fileno())
            if (status.st_dev, status.st_ino) == self.identity and stat.S_ISREG(status.st_mode):
                return raw
            raw.close()
        raise changed(self.place, "removed")

    def _candidates(self) -> Iterator[Path]:
        yield self.path
        with os.scandir(self.path.parent) as entries:
            yield from (Path(entry.path) for entry in entries if entry.inode() == self.identity[1])


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
