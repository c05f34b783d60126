"""Copy a file to a local one, in which parsers seek, and hash its content on the way."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.sources.stored.stored_files import SourceFile

_CHUNK_BYTES = 1024 * 1024
MAX_BYTES = 4 * 1024**3  # unpacked; a report of 17,000 attempts has 60 MB
DAMAGED, TOO_LARGE = "damaged_gzip", "file_too_large"


class CopyFaultError(Exception):
    """A file that can't be unpacked, which is refused: never raised to a task."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LocalCopy(NamedTuple):
    """A copy of a file.

    Args:
        file: The unpacked content, from its beginning.
        content_hash: SHA-256 of the unpacked content, in hex.
    """

    file: BinaryIO
    content_hash: str


@contextmanager
def local_copy(source: SourceFile) -> Iterator[LocalCopy]:
    """Copy a file, unpacked, for as long as it is needed.

    Raises:
        CopyFaultError: It is no gzip stream in spite of its name, breaks off, or is too large.
        SourceUnavailableError: It can't be opened or read.
        SourceChangedError: It was removed or replaced in the meantime.
    """
    with TemporaryFile() as target:
        digest, size = hashlib.sha256(), 0
        with source.opened() as raw:
            for chunk in _chunks(raw, is_packed=source.is_packed):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise CopyFaultError(TOO_LARGE)
                digest.update(chunk)
                target.write(chunk)
        target.flush()
        target.seek(0)
        yield LocalCopy(cast("BinaryIO", target), digest.hexdigest())


def _chunks(raw: BinaryIO, *, is_packed: bool) -> Iterator[bytes]:
    stream = gzip.GzipFile(fileobj=raw) if is_packed else raw
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CopyFaultError(DAMAGED) from error
