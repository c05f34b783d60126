"""Read files of JSON lines in any state: gzipped, half written, damaged, in another encoding.

A writer ends a line with a newline. If a file may still grow, its last line counts only once it
has its newline, and a gzipped file may end in mid-stream.
"""

from __future__ import annotations

import codecs
import gzip
import logging
import os
import re
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from include.chimera.sources.api_logs.log_folders import PACKED, LogFile, changed, opened, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)
MAX_LINE_BYTES = 1024 * 1024
BOM = codecs.BOM_UTF8
TOO_LONG, DAMAGED, OTHER_ENCODING = "line_too_long", "damaged_gzip", "file_not_utf8"
ENDLESS, BOMB = "line_without_end", "gzip_bomb"
# JSON begins with an ASCII character; zero bytes around it mean UTF-16 or UTF-32 (RFC 4627, 3).
_WIDE = re.compile(rb"(\xff\xfe(\0\0)?)?[{\s]\0|((\0\0)?\xfe\xff)?(\0|\0\0\0)[{\s]")
# A file that is cheap to write must not take hours to read. Distinct lines have distinct times, so
# a gzipped file has fewer lines than bytes; gzip compresses at most 1,000 to 1.
_ENDLESS_BYTES = 1024**3
_MORE_LINES, _MORE_BYTES, _DENSEST = 1_000_000, 1024**3, 200
_CHUNK_BYTES = 1024 * 1024


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
            kept.append(file._replace(name=file.name + PACKED))
    return kept


def _is_copy(packed: LogFile, plain: LogFile) -> bool:
    """Is the packed file's content, as far as it is written, a prefix of the plain file's?"""
    with opened(packed) as raw, opened(plain) as other, closing(_unpacked(raw)) as file:
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
        SourceChangedError: The file was removed or truncated in the meantime.
        SourceUnavailableError: The file can't be opened or read.
    """
    if log.fault:
        logger.warning("%s is left out: %s", shown(log.path), log.fault)
        yield Line(0, b"", 0, log.fault)
        return
    with opened(log) as raw:
        if log.is_packed:
            packed_bytes = os.fstat(raw.fileno()).st_size
            yield from _lines(_unpacked(raw), packed_bytes, is_finished=is_finished)
        else:
            yield from _lines(raw, None, is_finished=is_finished)
        if os.fstat(raw.fileno()).st_size < raw.tell():
            raise changed(log.path, "truncated")


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
