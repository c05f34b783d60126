"""Read files of JSON lines in any state: gzipped, half written, damaged, in another encoding.

A writer ends a line with a newline. If a file may still grow, its last line counts only once it
has its newline, and a gzipped file may end in mid-stream. Where files lie is another matter:
`LogRoot` lists them, each `LogFile` opens itself.
"""

from __future__ import annotations

import codecs
import gzip
import logging
import re
import zlib
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, cast

from include.chimera.errors import SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

logger = logging.getLogger(__name__)
# A writer puts this marker into an hour's folder when it is done with it.
# Source: Hadoop's FileOutputCommitter, which Spark follows.
MARKER = "_SUCCESS"
PACKED = ".gz"
LEAVES_ROOT, NOT_REGULAR = "link_leaves_root", "not_a_regular_file"
MAX_LINE_BYTES = 1024 * 1024
BOM = codecs.BOM_UTF8
TOO_LONG, DAMAGED, OTHER_ENCODING = "line_too_long", "damaged_gzip", "file_not_utf8"
ENDLESS, BOMB = "line_without_end", "gzip_bomb"
_NAME = re.compile(r"\.jsonl(\.\d+)?(\.gz)?\Z")
_ODD = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# JSON begins with an ASCII character; zero bytes around it mean UTF-16 or UTF-32 (RFC 4627, 3).
_WIDE = re.compile(rb"(\xff\xfe(\0\0)?)?[{\s]\0|((\0\0)?\xfe\xff)?(\0|\0\0\0)[{\s]")
# A file that is cheap to write must not take hours to read. Distinct lines have distinct times, so
# a gzipped file has fewer lines than bytes; gzip compresses at most 1,000 to 1.
_ENDLESS_BYTES = 1024**3
_MORE_LINES, _MORE_BYTES, _DENSEST = 1_000_000, 1024**3, 200
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class LogFile(ABC):
    """One file of an hour, as listed.

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


class HourFolder(NamedTuple):
    """An hour's folder, as listed.

    Args:
        place: Its path or URL, as text that is safe in a message.
        names: All names in it; none if a listing shows that it is not there.
        files: Its log files, each once however many names it has: `*.jsonl`, rotated (`.1`),
            packed (`.gz`).
    """

    place: str
    names: list[str]
    files: list[LogFile]

    def unread(self) -> list[str]:
        """Return the names that are not log files, escaped by `shown`.

        Names that begin with a dot or an underscore, like `_SUCCESS`, are the writer's own and
        left out.
        """
        return [shown(name) for name in self.names if name[0] not in "._" and not is_log(name)]


class LogRoot(Protocol):
    """Where the API's logs lie: a local folder, or a folder of an object store."""

    def hour(self, start: datetime) -> HourFolder:
        """List the folder of the files written in the hour that starts at `start` (UTC).

        Raises:
            SourceUnavailableError: The folder can't be listed, or a file's status can't be read.
            SourceChangedError: Files keep being renamed.
            ConfigurationError: The object store refuses the key, or has no such bucket.
        """


def hour_path(start: datetime) -> str:
    """Return the path below the root of the files written in an hour."""
    return f"dt={start:%Y-%m-%d}/hour={start:%H}"


def is_log(name: str) -> bool:
    """Is it a log file, by its name?"""
    return _NAME.search(name) is not None


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


class Line(NamedTuple):
    """One line that is not blank.

    Args:
        offset: Position of its first byte in the unpacked file.
        content: The line without its newline, cut to `MAX_LINE_BYTES`.
        length: Length of the whole line in bytes, without its newline.
        fault: Why its content can't be used, None if it can.
    """

    offset: int
    content: bytes
    length: int
    fault: str | None = None


def without_copies(files: Sequence[LogFile]) -> list[LogFile]:
    """Leave out a gzipped file whose unpacked original is beside it: compression is under way.

    A gzipped file with other content is kept under its own name, with a warning.

    Raises:
        SourceUnavailableError: As `read_lines`.
    """
    plain = {file.name: file for file in files if not file.is_packed}
    kept = []
    for file in files:
        twin = plain.get(file.name) if file.is_packed else None
        if twin is None or file.fault or twin.fault:
            kept.append(file)
        elif not _is_copy(file, twin):
            logger.warning(
                "%s%s holds other lines than the file of that name beside it: both are read",
                file.name,
                PACKED,
            )
            kept.append(replace(file, name=file.name + PACKED))
    return kept


def _is_copy(packed: LogFile, plain: LogFile) -> bool:
    """Is the packed file's content, as far as it is written, a prefix of the plain file's?"""
    with packed.opened() as raw, plain.opened() as other, closing(_unpacked(raw)) as file:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                if other.read(len(chunk)) != chunk:
                    return False
        except EOFError:
            return True
        except (zlib.error, gzip.BadGzipFile):
            return False
    return True


def _unpacked(raw: BinaryIO) -> BinaryIO:
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw))


def read_lines(log: LogFile, *, is_finished: bool) -> Iterator[Line]:
    """Yield the file's lines.

    Args:
        log: A file of an hour.
        is_finished: Whether no writer appends to it any more. Then a last line without a newline
            counts, and a truncated gzip stream is a fault.

    Raises:
        SourceChangedError: The file was removed, truncated or replaced in the meantime.
        SourceUnavailableError: The file can't be opened or read.
    """
    if log.fault:
        logger.warning("%s is left out: %s", log.place, log.fault)
        yield Line(0, b"", 0, log.fault)
        return
    with log.opened() as raw:
        if log.is_packed:
            yield from _lines(_unpacked(raw), log.size, is_finished=is_finished)
        else:
            yield from _lines(raw, None, is_finished=is_finished)


def _lines(file: BinaryIO, packed_bytes: int | None, *, is_finished: bool) -> Iterator[Line]:
    offset = count = 0
    try:
        while chunk := file.readline(MAX_LINE_BYTES + 1):
            count += 1
            length, end = len(chunk), chunk
            if not chunk.endswith(b"\n"):  # a longer line, or the file's end
                length, end = _skip(file, chunk)
            if fault := _hopeless(chunk, length, offset, count, packed_bytes):
                yield Line(offset, b"", 0, fault)
                return
            if not end.endswith(b"\n") and not is_finished:
                return
            content = chunk.rstrip(b"\r\n")[:MAX_LINE_BYTES]
            body = length - (len(end) - len(end.rstrip(b"\r\n")))
            if content and content != BOM and not content.removeprefix(BOM).isspace():
                yield Line(offset, content, body, TOO_LONG if body > MAX_LINE_BYTES else None)
            offset += length
    except (EOFError, zlib.error, gzip.BadGzipFile):
        if is_finished:
            yield Line(offset, b"", 0, DAMAGED)


def _hopeless(
    chunk: bytes, length: int, offset: int, count: int, packed_bytes: int | None
) -> str | None:
    """Return why reading must stop at this line, or None to go on."""
    if count == 1 and _WIDE.match(chunk):
        return OTHER_ENCODING
    if length >= _ENDLESS_BYTES:
        return ENDLESS
    if packed_bytes is None:
        return None
    too_many = count > packed_bytes + _MORE_LINES
    too_much = offset > max(_MORE_BYTES, _DENSEST * packed_bytes)
    return BOMB if too_many or too_much else None


def _skip(file: BinaryIO, chunk: bytes) -> tuple[int, bytes]:
    """Read to the end of a line; return its length and its last part."""
    length, end = len(chunk), chunk
    while (
        not end.endswith(b"\n")
        and length < _ENDLESS_BYTES
        and (more := file.readline(MAX_LINE_BYTES))
    ):
        length, end = length + len(more), more
    return length, end
