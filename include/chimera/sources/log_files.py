"""Files of JSON lines as they are found: rotated, packed, half written, damaged.

A writer ends a line with a newline. The last line of a file that may still grow counts only once it
has one, and a packed file that may still grow ends where its bytes end.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from include.chimera.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

MAX_LINE_BYTES = 1024 * 1024
TOO_LONG, DAMAGED = "line_too_long", "damaged_gzip"
_NAME = re.compile(r"\.jsonl(\.\d+)?(\.gz)?$")
_PACKED = ".gz"


class Line(NamedTuple):
    """One line that is not blank.

    Args:
        offset: Of its first byte, in the unpacked file.
        content: Without its end; at most `MAX_LINE_BYTES`, the beginning of a longer one.
        length: Of the whole line in bytes, without its end.
        fault: Why its content can't be used, None where it can.
    """

    offset: int
    content: bytes
    length: int
    fault: str | None = None


def hour_folder(root: Path, start: datetime) -> Path:
    """Return the folder of the files that are written in the hour from `start` (UTC) on."""
    return root / f"dt={start:%Y-%m-%d}" / f"hour={start:%H}"


def log_files(folder: Path) -> list[Path]:
    """Return the log files of one hour's folder, sorted: `*.jsonl`, rotated (`.1`), packed (`.gz`).

    While a file is being packed, both are there: the unpacked one counts.
    """
    found = {path for path in folder.glob("*.jsonl*") if _NAME.search(path.name)}
    twins = {path for path in found if plain_name(path) != path and plain_name(path) in found}
    return sorted(found - twins)


def plain_name(path: Path) -> Path:
    """Return the file's name before it was packed: packing changes no row."""
    return path.with_suffix("") if path.suffix == _PACKED else path


def read_lines(path: Path, *, is_finished: bool) -> Iterator[Line]:
    """Yield the file's lines.

    Args:
        path: A log file.
        is_finished: Whether nobody writes to it any more; a last line without a newline then
            counts, and packed bytes that break off are a fault.

    Raises:
        SourceUnavailableError: The file was removed, replaced or truncated meanwhile, or its disk
            does not give it.
    """
    is_packed = path.suffix == _PACKED
    try:
        with path.open("rb") as raw:
            file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if is_packed else raw
            yield from _lines(file, is_finished=is_finished)
            _check_unchanged(path, raw)
    except FileNotFoundError as error:
        raise _changed(path, "removed") from error
    except OSError as error:
        raise SourceUnavailableError(
            expected="a log file that can be read",
            came=type(error).__name__,
            where=str(path),
            remedy="check the file's permissions and its disk",
        ) from error


def _lines(file: BinaryIO, *, is_finished: bool) -> Iterator[Line]:
    offset = 0
    try:
        while chunk := file.readline(MAX_LINE_BYTES + 1):
            content, length, fault = chunk.rstrip(b"\r\n"), len(chunk), None
            body = len(content)
            if not chunk.endswith(b"\n"):  # a longer line, or the file's end
                end = chunk
                while not end.endswith(b"\n") and (more := file.readline(MAX_LINE_BYTES)):
                    length, end = length + len(more), more
                if not end.endswith(b"\n") and not is_finished:
                    return
                body = length - (len(end) - len(end.rstrip(b"\r\n")))
                content, fault = content[:MAX_LINE_BYTES], TOO_LONG
            if content and not content.isspace():
                yield Line(offset, content, body, fault if body > MAX_LINE_BYTES else None)
            offset += length
    except (EOFError, zlib.error, gzip.BadGzipFile):
        if is_finished:
            yield Line(offset, b"", 0, DAMAGED)


def _check_unchanged(path: Path, raw: BinaryIO) -> None:
    """Look whether the path still names the file that was read, whole."""
    opened, named = os.fstat(raw.fileno()), path.stat()
    if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino):
        raise _changed(path, "replaced")
    if opened.st_size < raw.tell():
        raise _changed(path, "truncated")


def _changed(path: Path, what: str) -> SourceUnavailableError:
    return SourceUnavailableError(
        expected="a log file that stays while it is read",
        came=f"a file that was {what}",
        where=str(path),
        remedy="nothing: the task reads it again by itself; if it persists, rotate by renaming",
    )
