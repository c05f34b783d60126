"""Read a local copy of a file: line by line, or as one JSON document."""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from include.chimera.sources.stored.local_copies import CopyFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from msgspec.json import Decoder

_T = TypeVar("_T")
MAX_LINE_BYTES = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
# A document is read at once: one of so many bytes, and a copy of it, stay far below a gigabyte.
_DOCUMENT_BYTES = 256 * 1024 * 1024
DOCUMENT_TOO_LARGE = "json_over_256_mib"
_NO_NUMBER = re.compile(rb"(?<=[\s:,\[])-?(?:NaN|Infinity)(?=[\s,\]}])")


class JsonLine(NamedTuple):
    """A line that is not blank.

    Args:
        offset: Position of its first byte.
        content: The line; empty if it is longer than 64 MiB.
        length: Its length in bytes.
    """

    offset: int
    content: bytes
    length: int


def json_lines(file: BinaryIO) -> Iterator[JsonLine]:
    """Yield the file's lines from its beginning, without blank ones."""
    file.seek(0)
    offset = 0
    while chunk := file.readline(MAX_LINE_BYTES + 1):
        length, end = len(chunk), chunk
        while len(chunk) > MAX_LINE_BYTES and not end.endswith(b"\n"):
            end = file.readline(MAX_LINE_BYTES + 1)
            length += len(end)
            if not end:
                break
        content = chunk.strip().removeprefix(_BOM) if length <= MAX_LINE_BYTES else b""
        if content or length > MAX_LINE_BYTES:
            yield JsonLine(offset, content, length)
        offset += length


def mapped(file: BinaryIO) -> memoryview:
    """Return a file as if it were read into memory, from where the system may drop it again.

    The mapping ends with the last reference to what was decoded from it.

    Raises:
        CopyFaultError: It is longer than a document may be, 256 MiB.
    """
    size = file.seek(0, 2)
    if not size:
        return memoryview(b"")
    if size > _DOCUMENT_BYTES:
        raise CopyFaultError(DOCUMENT_TOO_LARGE)
    view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return view[len(_BOM) :] if view[: len(_BOM)] == _BOM else view


def decoded(content: memoryview | bytes, decoder: Decoder[_T]) -> _T | None:
    """Return a document's fields as the decoder's type, None if it is none.

    Fields that the type does not name are skipped. NaN and Infinity, which JSON lacks and some
    tools write, become null.
    """
    try:
        return decoder.decode(content)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
    except msgspec.DecodeError:
        if not _NO_NUMBER.search(content):
            return None
    try:
        return decoder.decode(_NO_NUMBER.sub(b"null", bytes(content)))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
