"""List the files of a local folder, each once however many names it has.

Others write these folders. A symbolic link is followed only to a target below the root;
anything that is not a regular file is reported and never opened.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from include.chimera.errors import SourceUnavailableError
from include.chimera.sources.stored.stored_files import (
    LEAVES_ROOT,
    NOT_REGULAR,
    PACKED,
    SourceFile,
    SourceFolder,
    changed,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.chimera.sources.stored.stored_files import Purpose

_LOOKS = 10  # a rotation takes microseconds; if the folder never settles, something else is wrong
_BUFFER_BYTES = 64 * 1024
# So that no one can slip in a link between listing and opening, nor a pipe that blocks.
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


@dataclass(frozen=True)
class LocalRoot:
    """Files in a folder of this machine.

    Args:
        root: The folder.
        purpose: What they are for.
    """

    root: Path
    purpose: Purpose

    def listed(self, path: str, is_wanted: Callable[[str], bool]) -> SourceFolder:
        """List a folder, as `SourceRoot` says."""
        folder = self.root / path
        names, found = self._names(folder), self._look(folder, is_wanted)
        for _ in range(_LOOKS):
            before, found = found, self._look(folder, is_wanted)
            if before.items() <= found.items():  # else a file was renamed during the look-up
                # Links last, so that a file's own name wins.
                own = sorted(before.items(), key=lambda item: item[0] != item[1].path.name)
                files: dict[object, LocalFile] = {}
                for _, file in own:
                    files.setdefault(file.identity, file)
                by_path = sorted(files.values(), key=lambda file: file.path)
                return SourceFolder(
                    shown(folder), names, self._folders(folder, names), list(by_path)
                )
        raise changed(shown(folder), "renamed again and again")

    def _names(self, folder: Path) -> list[str]:
        """Return the names in a folder; [] if a listing shows that the folder is not there."""
        with _named(self.root, self.purpose):
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
                if part not in self._listed(place):
                    return []
                place /= part
            return self._listed(folder)

    def _listed(self, folder: Path) -> list[str]:
        with _named(folder, self.purpose):
            return sorted(path.name for path in folder.iterdir())

    def _folders(self, folder: Path, names: list[str]) -> list[str]:
        """Return the names that are folders themselves: a link may lead round in a circle."""
        with _named(folder, self.purpose):
            return [
                name
                for name in names
                if (folder / name).is_dir() and not (folder / name).is_symlink()
            ]

    def _look(self, folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, LocalFile]:
        names = [name for name in self._names(folder) if is_wanted(name)]
        if not names:
            return {}
        with _named(folder, self.purpose):
            real_root, real = _real(self.root), _real(folder)
            return {name: _file(real_root, real / name, self.purpose) for name in names}


def _file(root: Path, path: Path, purpose: Purpose) -> LocalFile:
    """Return the file of a path, following a link to its target."""
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except FileNotFoundError as error:
        raise changed(shown(path), "removed") from error
    with _named(path, purpose):
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
        purpose=purpose,
        root=root,
        path=target,
    )


def _real(path: Path, *, strict: bool = True) -> Path:
    return Path(os.path.realpath(path, strict=strict))  # Path.resolve has its own error for loops


@dataclass(frozen=True, kw_only=True)
class LocalFile(SourceFile):
    """A file in a local folder.

    Args:
        purpose: What it is for.
        root: The root, with links resolved.
        path: The file's path when it was listed, with links resolved.
    """

    identity: tuple[int, int]
    purpose: Purpose
    root: Path
    path: Path

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file, even if it was renamed within its folder since."""
        with _named(self.path, self.purpose), self._find() as raw:
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
def _named(place: Path, purpose: Purpose) -> Iterator[None]:
    """Translate the system's errors into ours, which name the place."""
    try:
        yield
    except OSError as error:
        raise SourceUnavailableError(
            expected=f"a folder or file of {purpose.what} that can be read",
            came=f"{type(error).__name__} ({os.strerror(error.errno or 0)})",
            where=shown(place),
            remedy="check that it is there (its disk mounted, a link's target in place) and that "
            "this user may list and read it; then clear this task",
        ) from error
