"""List files in an S3-compatible object store, and read them part by part.

An object is never half written, but it may be replaced, by a longer one of the same key. A reading
takes what its first request finds, and each later one asks for the same ETag.
"""

from __future__ import annotations

import io
import re
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import (  # type: ignore[import-untyped]  # it ships no types
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from include.chimera.errors import ChimeraError, ConfigurationError, SourceUnavailableError
from include.chimera.sources.stored.stored_files import (
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

_PART_BYTES = 8 * 1024 * 1024  # a request's round trip is then short beside the reading of a part
_BUFFER_BYTES = 64 * 1024
_AHEAD = 4  # small objects that are asked for while one is read; each may take a part's memory
_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+)")
_CODE = re.compile(r"[A-Za-z]{3,60}")
_GONE, _REPLACED, _EMPTY, _TOO_MANY, _OUTAGE = 404, 412, 416, 429, 500
_LATER = frozenset({"ExpiredToken", "RequestTimeout", "OperationAborted"})
# botocore repeats a request that fails, but not one whose answer breaks off.
_AGAIN = Retrying(
    retry=retry_if_exception_type(
        (ResponseStreamingError, IncompleteReadError, FlexibleChecksumError)
    ),
    stop=stop_after_attempt(4),
    wait=wait_exponential(0.2),
    reraise=True,
)


@dataclass(frozen=True)
class BucketRoot:
    """Files below a folder of a bucket.

    Args:
        client: A boto3 client of the store.
        bucket: The bucket's name.
        folder: The keys' beginning, without a final slash; "": the bucket itself.
        purpose: What they are for.
    """

    client: Any = field(repr=False)
    bucket: str
    folder: str
    purpose: Purpose

    def listed(self, path: str, is_wanted: Callable[[str], bool]) -> SourceFolder:
        """List a folder, as `SourceRoot` says."""
        prefix = f"{self._root()}{path}/" if path else self._root()
        found: list[tuple[str, dict[str, Any]]] = []
        for page in self._pages(prefix):
            found += ((entry["Key"], entry) for entry in page.get("Contents", ()))
            inner = (entry["Prefix"] for entry in page.get("CommonPrefixes", ()))
            found += ((folder.removesuffix("/"), {}) for folder in inner)
        if not found:
            self._require_root()
        # An object that stands for the folder itself, which some tools make, is no name in it.
        named = sorted(
            (
                (key[len(prefix) :], key, entry)
                for key, entry in found
                if key != prefix or not entry
            ),
            key=lambda item: item[:2],
        )
        ahead = _Ahead()
        wanted = [(key, entry) for name, key, entry in named if is_wanted(name)]
        ahead.files = [self._file(*each, ahead, number) for number, each in enumerate(wanted)]
        names = [name or "/" for name, *_ in named]  # a folder whose own name is empty
        folders = [name for name, _, entry in named if name and not entry]
        return SourceFolder(self._url(prefix), names, folders, list(ahead.files))

    def _root(self) -> str:
        return f"{self.folder}/" if self.folder else ""

    def _url(self, key: str) -> str:
        return shown(f"s3://{self.bucket}/{key}")

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield a folder's objects and folders, at most 1,000 in each page."""
        pages = self.client.get_paginator("list_objects_v2")
        with _told(self._url(prefix), self.purpose):
            yield from pages.paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")

    def _require_root(self) -> None:
        """Refuse a root that is not there: its hours are not empty, its name is wrong."""
        if self.folder and not any(
            page.get("Contents") or page.get("CommonPrefixes") for page in self._pages(self._root())
        ):
            raise SourceUnavailableError(
                expected=f"a folder with {self.purpose.what}",
                came="no object below it",
                where=self._url(self._root()),
                remedy=f"correct {self.purpose.setting}; if nothing has been written yet, make the "
                "folder: an empty object whose key is the folder's name with a final slash",
            )

    def _file(self, key: str, entry: dict[str, Any], ahead: _Ahead, number: int) -> BucketFile:
        """Return the file of a listed object; an entry that is empty is a folder's."""
        return BucketFile(
            place=self._url(key),
            name=shown(key[len(self._root()) :].removesuffix(PACKED)),
            identity=(key, entry.get("ETag")),
            size=entry.get("Size", 0),
            is_packed=key.endswith(PACKED),
            fault=None if entry else NOT_REGULAR,
            purpose=self.purpose,
            client=self.client,
            bucket=self.bucket,
            key=key,
            modified=entry["LastModified"].timestamp() if entry else 0.0,
            ahead=ahead,
            number=number,
        )


@dataclass(frozen=True, kw_only=True)
class BucketFile(SourceFile):
    """An object.

    Args:
        purpose: What it is for.
        client: A boto3 client of the store.
        bucket: The bucket's name.
        key: The object's key.
        modified: When it was written, in seconds since 1970 (UTC).
        ahead: The requests for the objects of its folder.
        number: Its place among them, from 0.
    """

    purpose: Purpose
    client: Any = field(repr=False, compare=False)
    bucket: str
    key: str
    modified: float = field(compare=False)
    ahead: _Ahead = field(repr=False, compare=False)
    number: int

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the newest object of this key, which may have grown since it was listed."""
        with (
            _told(self.place, self.purpose),
            io.BufferedReader(self.ahead.take(self), _BUFFER_BYTES) as raw,
        ):
            yield cast("BinaryIO", raw)

    def written_at(self) -> float:
        """Return when the object was written, as listed."""
        return self.modified


class _Ahead:
    """Asks for the next objects of a folder while one is read: many small ones wait for no answer.

    Not for large ones, whose later parts might be another object's by then.
    """

    def __init__(self) -> None:
        self.files: list[BucketFile] = []
        self._pool = ThreadPoolExecutor(_AHEAD)
        self._begun: dict[str, _Parts] = {}

    def take(self, file: BucketFile) -> _Parts:
        """Return the parts of one object, and begin those after it; forget those left out."""
        numbers = {other.key: other.number for other in self.files}
        for key in [key for key in self._begun if numbers[key] < file.number]:
            del self._begun[key]
        for other in self.files[file.number + 1 : file.number + 1 + _AHEAD]:
            if other.key not in self._begun and other.size <= _PART_BYTES and not other.fault:
                self._begun[other.key] = _Parts(other, self._pool)
        return self._begun.pop(file.key, None) or _Parts(file, self._pool)


class _Parts(io.RawIOBase):
    """The bytes of one object, got by ranges, at most one of them ahead of the reading."""

    def __init__(self, file: BucketFile, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self._file, self._pool, self._at, self._size, self._version = file, pool, 0, -1, ""
        self._same: dict[str, str] = {}  # what makes later parts those of the first one's object
        self._rest = memoryview(b"")
        self._next: Future[bytes] | None = pool.submit(_AGAIN, self._part) if file.size else None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Fill the buffer as far as the part reaches; return the length, 0 at the end."""
        if not self._rest and self._next:
            part = self._next.result()
            self._at, self._rest = self._at + len(part), memoryview(part)
            is_more = part and self._at < self._size
            self._next = self._pool.submit(_AGAIN, self._part) if is_more else None
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def _part(self) -> bytes:
        """Ask for the part that begins where the last one ended."""
        file, span = self._file, f"bytes={self._at}-{self._at + _PART_BYTES - 1}"
        try:
            answer = file.client.get_object(
                Bucket=file.bucket, Key=file.key, Range=span, **self._same
            )
        except ClientError as error:
            status, is_first = _status(error), not self._same
            if status == _EMPTY and is_first:
                return b""
            if status in (_GONE, _REPLACED) and self._version and "VersionId" not in self._same:
                self._same["VersionId"] = self._version  # the bucket keeps what was replaced
                return self._part()
            if _code(error) == "NoSuchKey" or (status < _OUTAGE and not is_first):
                raise changed(file.place, "removed or replaced") from None
            raise
        # A store may answer with the whole of an object that is no longer than a part, or empty.
        whole = f"bytes 0-/{answer['ContentLength']}"
        found = _RANGE.fullmatch(answer.get("ContentRange", whole))
        if not found or int(found[1]) != self._at or answer["ContentLength"] > _PART_BYTES:
            raise SourceUnavailableError(
                expected="the part of an object that was asked for",
                came="another one, or the whole",
                where=file.place,
                remedy="put the files into a store that gives ranges of objects, as S3 does",
            )
        part: bytes = answer["Body"].read()
        self._size, self._version = int(found[2]), answer.get("VersionId", "")
        self._same.setdefault("IfMatch", answer["ETag"])
        return part


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _told(place: str, purpose: Purpose) -> Iterator[None]:
    """Translate the store's errors into ours, which name the place and none of its texts."""
    try:
        yield
    except ClientError as error:
        status, code = _status(error), _code(error)
        came = f"HTTP {status}" + (f" ({code})" if _CODE.fullmatch(code) else "")
        is_outage = status >= _OUTAGE or status == _TOO_MANY or code in _LATER
        raise (_outage if is_outage else _refusal)(place, came, purpose) from None
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise _refusal(place, f"no key ({type(error).__name__})", purpose) from None
    except BotoCoreError as error:
        raise _outage(place, f"no answer ({type(error).__name__})", purpose) from None


def _outage(place: str, came: str, purpose: Purpose) -> ChimeraError:
    return SourceUnavailableError(
        expected=f"an object store that gives {purpose.what}",
        came=came,
        where=place,
        remedy="see that it answers, at the endpoint of its connection; the task retries by itself",
    )


def _refusal(place: str, came: str, purpose: Purpose) -> ChimeraError:
    return ConfigurationError(
        expected="a bucket that is there, and a key that may list it and read its objects",
        came=came,
        where=place,
        remedy=f"correct {purpose.setting}, or endpoint, region and key of the connection "
        f"{purpose.connection} (none: the lake's store); the key needs s3:ListBucket on the "
        "bucket and s3:GetObject below the root; then clear this task",
    )
