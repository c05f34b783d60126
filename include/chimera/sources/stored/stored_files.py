"""Files that others write: listed and opened alike in a local folder and in an object store."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_attempt

from include.chimera.errors import SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

logger = logging.getLogger(__name__)
# A rotation may interrupt a reading. If one interrupts every attempt, leave it to task retries.
ANEW = Retrying(
    retry=retry_if_exception_type(SourceChangedError),
    stop=stop_after_attempt(3),
    before_sleep=before_sleep_log(logger, logging.WARNING),
    reraise=True,
)
PACKED = ".gz"
LEAVES_ROOT, NOT_REGULAR = "link_leaves_root", "not_a_regular_file"
_ODD = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_DEPTH = 20  # of folders in folders; more is a loop or a mistake


class Purpose(NamedTuple):
    """What files are for, as messages put it.

    Args:
        what: The files in words.
        setting: The setting of their root.
        connection: The setting of the connection with their object store's key.
    """

    what: str
    setting: str
    connection: str


@dataclass(frozen=True, kw_only=True)
class SourceFile(ABC):
    """One file, as listed.

    Args:
        place: Its path or URL when it was listed, as text that is safe in a message.
        name: Its path below the root as text, without `.gz`: compression changes no row.
        identity: Device and inode, which survive a rename; of an object, key and ETag.
        size: Its length in bytes when it was listed.
        is_packed: Whether its name, or that of a link's target, ends in `.gz`.
        links: How many hard links it has.
        fault: Why it must not be opened, None if it may be.
    """

    place: str
    name: str
    identity: Hashable
    size: int = field(compare=False)
    is_packed: bool
    links: int = 1
    fault: str | None = None

    @abstractmethod
    def opened(self) -> AbstractContextManager[BinaryIO]:
        """Open the file for reading; the bytes are of one file from its beginning to its end.

        Raises:
            SourceUnavailableError: It can't be opened or read.
            SourceChangedError: It is gone, or was truncated or replaced while it was read.
        """

    @abstractmethod
    def written_at(self) -> float:
        """Return when the file was last written, in seconds since 1970 (UTC).

        Raises:
            SourceUnavailableError: As `opened`.
        """


class SourceFolder(NamedTuple):
    """A folder, as listed.

    Args:
        place: Its path or URL, as text that is safe in a message.
        names: All names in it; none if a listing shows that it is not there.
        folders: Those that are folders, no links.
        files: Its wanted files, each once however many names it has.
    """

    place: str
    names: list[str]
    folders: list[str]
    files: list[SourceFile]


class SourceRoot(Protocol):
    """Where files lie: a local folder, or a folder of an object store."""

    def listed(self, path: str, is_wanted: Callable[[str], bool]) -> SourceFolder:
        """List the folder at a path below the root; "" is the root itself.

        Args:
            path: Names joined by slashes.
            is_wanted: Whether a file counts, by its name.

        Raises:
            SourceUnavailableError: The folder can't be listed, or a file's status can't be read.
            SourceChangedError: Files keep being renamed.
            ConfigurationError: The object store refuses the key, or has no such bucket.
        """


def all_listed(
    root: SourceRoot, is_wanted: Callable[[str], bool], path: str = "", depth: int = _DEPTH
) -> Iterator[SourceFolder]:
    """Yield the listing of a folder and of all in it but those whose names begin with a dot.

    Raises:
        ChimeraError: As `SourceRoot.listed`.
    """
    listing = root.listed(path, is_wanted)
    yield listing
    for name in listing.folders if depth else ():
        if not name.startswith("."):
            yield from all_listed(root, is_wanted, f"{path}/{name}" if path else name, depth - 1)


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


def changed(place: str, how: str) -> SourceChangedError:
    """Return the error for a file that changed while it was read."""
    return SourceChangedError(came=f"one that was {how}", where=place)
