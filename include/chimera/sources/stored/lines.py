"""Read a local copy of a file: line by line, or as one JSON document."""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from msgspec.json import Decoder

_T = TypeVar("_T")
MAX_LINE_BYTES = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
# Python's own parser takes NaN, which some tools write, but holds all of a document as objects.
_LENIENT_BYTES = 64 * 1024 * 1024


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
    """
    file.seek(0)
    if not file.read(1):
        return memoryview(b"")
    view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return view[len(_BOM) :] if view[: len(_BOM)] == _BOM else view


def decoded(content: memoryview | bytes, decoder: Decoder[_T]) -> _T | None:
    """Return a document's fields as the decoder's type, None if it is none.

    Fields that the type does not name are skipped. A document with NaN or Infinity, which JSON
    lacks, is read by Python's parser, if it is not large; both become null.
    """
    try:
        return decoder.decode(content)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
    except msgspec.DecodeError:
        if len(content) > _LENIENT_BYTES:
            return None
    try:
        plain = json.loads(bytes(content), parse_constant=lambda _: None)
        return decoder.decode(json.dumps(plain).encode())
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
