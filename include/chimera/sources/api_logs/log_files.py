"""Read files of JSON lines in any state: gzipped, half written, damaged, in another encoding.

A writer ends a line with a newline. If a file may still grow, its last line counts only once it
has its newline, and a gzipped file may end in mid-stream. Where files lie is another matter:
`LogRoot` lists them, each `SourceFile` opens itself.
"""

from __future__ import annotations

import codecs
import gzip
import logging
import re
import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from include.chimera.sources.stored.stored_files import PACKED, Purpose, shown
from include.chimera.sources.stored.stored_roots import stored_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from include.chimera.sources.stored.stored_files import SourceFile, SourceRoot

logger = logging.getLogger(__name__)
# A writer puts this marker into an hour's folder when it is done with it.
# Source: Hadoop's FileOutputCommitter, which Spark follows.
MARKER = "_SUCCESS"
MAX_LINE_BYTES = 1024 * 1024
BOM = codecs.BOM_UTF8
TOO_LONG, DAMAGED, OTHER_ENCODING = "line_too_long", "damaged_gzip", "file_not_utf8"
ENDLESS, BOMB = "line_without_end", "gzip_bomb"
_NAME = re.compile(r"\.jsonl(\.\d+)?(\.gz)?\Z")
# JSON begins with an ASCII character; zero bytes around it mean UTF-16 or UTF-32 (RFC 4627, 3).
_WIDE = re.compile(rb"(\xff\xfe(\0\0)?)?[{\s]\0|((\0\0)?\xfe\xff)?(\0|\0\0\0)[{\s]")
# A file that is cheap to write must not take hours to read. Distinct lines have distinct times, so
# a gzipped file has fewer lines than bytes; gzip compresses at most 1,000 to 1.
_ENDLESS_BYTES = 1024**3
_MORE_LINES, _MORE_BYTES, _DENSEST = 1_000_000, 1024**3, 200
_CHUNK_BYTES = 1024 * 1024


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
    files: list[SourceFile]

    def unread(self) -> list[str]:
        """Return the names that are not log files, escaped by `shown`.

        Names that begin with a dot or an underscore, like `_SUCCESS`, are the writer's own and
        left out.
        """
        return [shown(name) for name in self.names if name[0] not in "._" and not is_log(name)]


PURPOSE = Purpose("the API's logs", "CHIMERA_API_LOGS_ROOT", "CHIMERA_LOGS_CONNECTION")


@dataclass(frozen=True)
class LogRoot:
    """Where the logs lie.

    Args:
        root: A local folder, or a folder of an object store.
    """

    root: SourceRoot

    def hour(self, start: datetime) -> HourFolder:
        """List the folder of the files written in the hour that starts at `start` (UTC).

        Raises:
            SourceUnavailableError: The folder can't be listed, or a file's status can't be read.
            SourceChangedError: Files keep being renamed.
            ConfigurationError: The object store refuses the key, or has no such bucket.
        """
        listing = self.root.listed(hour_path(start), is_log)
        return HourFolder(listing.place, listing.names, listing.files)


def log_root(place: str, client: Any = None) -> LogRoot:  # noqa: ANN401 - boto3 has no types
    """Return the root of the logs.

    Args:
        place: A local folder, or `s3://<bucket>/<folder>`.
        client: The boto3 client of the store that holds a bucket; None: the lake's.

    Raises:
        ConfigurationError: The place is another URL, or one without a bucket.
    """
    return LogRoot(stored_root(place, PURPOSE, client))


def hour_path(start: datetime) -> str:
    """Return the path below the root of the files written in an hour."""
    return f"dt={start:%Y-%m-%d}/hour={start:%H}"


def is_log(name: str) -> bool:
    """Is it a log file, by its name?"""
    return _NAME.search(name) is not None


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


def without_copies(files: Sequence[SourceFile]) -> list[SourceFile]:
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


def _is_copy(packed: SourceFile, plain: SourceFile) -> bool:
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


def read_lines(log: SourceFile, *, is_finished: bool) -> Iterator[Line]:
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
