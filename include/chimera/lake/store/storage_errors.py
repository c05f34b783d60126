"""Translate storage and engine errors into our own, because engines' messages may hold rows.

No text of an engine is repeated. An error is classified by its class and attributes if possible,
else by looking up its text in a table of phrases, each with words of our own.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import duckdb
from deltalake.exceptions import DeltaError

from include.chimera.errors import (
    ChimeraError,
    DeltaRefusedError,
    LogDamagedError,
    MemoryExhaustedError,
    NotDeltaError,
    PathUndecodableError,
    ProtocolUnsupportedError,
    StorageAwayError,
    StorageRefusedError,
)
from include.chimera.lake.store import storage
from include.chimera.lake.store.cast_errors import (
    is_about_rows,
    is_broken_file,
    rows_error,
    unwrapped,
)
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    Found = tuple[type[ChimeraError], str]

STORAGE = (duckdb.IOException, duckdb.OutOfMemoryException, DeltaError, OSError)

_CODES: dict[type[ChimeraError], tuple[str, ...]] = {
    StorageRefusedError: ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM"),
    PathUndecodableError: ("EILSEQ", "ENAMETOOLONG", "EINVAL"),
    NotDeltaError: ("ENOTDIR", "EISDIR"),
}
_CLASSES: dict[int, type[ChimeraError]] = {
    getattr(errno, name): kind for kind, names in _CODES.items() for name in names
}
_STRERRORS = {os.strerror(code): code for code in _CLASSES}
_REFUSED = {401, 402, 403, 407, 507}

_PLACE = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*")  # a name in it could be one of the phrases
_BROKEN_ESCAPE = re.compile(r'"path":"[^"]*%(?![0-9A-Fa-f]{2})')
_ERRNO = re.compile(r"\b(?:os error|errno|code:) (\d+)", re.IGNORECASE)
_HTTP = re.compile(r"(?:HTTP|status code:?)(?: (?:status|code|error))? (\d{3})\b", re.IGNORECASE)
_KEY = re.compile(
    "ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH|INVALID_ACCESS_KEY|InvalidAccessKeyId|InvalidToken|"
    "ExpiredToken|EXPIRED_TOKEN|QuotaExceeded|InsufficientStorage"
)
_NO_TEXT = "one that is no text in UTF-8"
# Measured with deltalake 1.6.3 and DuckDB 1.5.5
# (tests/integration/lake/store/test_storage_errors.py); the first phrase that matches counts.
_PHRASES: tuple[tuple[str, type[ChimeraError], str], ...] = (
    (r"Unsupported|[Nn]ot supported|[Tt]able features must be|(reader|writer) version",
     ProtocolUnsupportedError, "a version, feature or type that they don't know"),
    (r"No files in log segment", NotDeltaError, "a folder without a Delta log"),
    (r"[Ii]nvalid table location|InvalidTableLocation|Path does not exist",
     NotDeltaError, "no folder of a table"),
    (r"can't decode byte|Utf8|utf-8|InvalidUrl|Error parsing Path|ObjectStorePath",
     PathUndecodableError, _NO_TEXT),
    (r"contiguous commit files|end version \d+ not the same",
     LogDamagedError, "a damaged log: versions are missing"),
    (r"[Cc]heckpoint|Parquet error|less than footer",
     LogDamagedError, "a damaged log: its checkpoint is missing or can't be read"),
    (r"No (table metadata|protocol)", LogDamagedError, "a damaged log: its beginning is missing"),
    (r"Json error|MalformedJson|serializ|expected value|EOF while|invalid type|missing field",
     LogDamagedError, "a damaged log: an entry is no JSON of Delta's"),
    (r"Partition column .*not found in schema",
     LogDamagedError, "a damaged log: it has partitions by what is none of its columns"),
    (r"No such file|No files found|NotFound|not found|FileNotFound",
     StorageAwayError, "a file that is not there"),
    (r"error sending request|[Cc]onnect|[Tt]ime[d]? ?out|NETWORK|SLOW_DOWN|HTTP error|dns|Generic",
     StorageAwayError, "no answer"),
    (r"DeltaKernel|Kernel error", LogDamagedError, "a damaged log: it can't be followed"),
)  # fmt: skip
_KNOWN = re.compile("|".join(phrase for phrase, *_ in _PHRASES) + "|os error")


def translate(error: BaseException, where: str) -> ChimeraError | None:
    """Translate an error of DuckDB, delta-rs, pyarrow or the file system; None for any other.

    Args:
        error: The error.
        where: The table and the operation on it.
    """
    error = unwrapped(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return MemoryExhaustedError(came="its limit reached", where=where)
    if isinstance(error, DeltaError) and not _KNOWN.search(_said(error)):
        return DeltaRefusedError(came=type(error).__name__, where=where)
    if is_about_rows(error):
        return rows_error(error, where)
    is_broken = isinstance(error, duckdb.Error) and is_broken_file(str(error))
    if is_broken or isinstance(error, (*STORAGE, UnicodeDecodeError)):
        kind, came = classify(error)
        return kind(came=came, where=where + _whose(str(error)))
    return None


def _whose(text: str) -> str:
    """Name the table of the file in a message, which is not always the one being built."""
    found = re.search(re.escape(get_settings().lake) + r"/([^/'\"]+)/([^/'\"]+)/", text)
    return f", a file of {found[1]}.{found[2]}" if found else ""


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Translate errors of DuckDB, delta-rs and the file system.

    Args:
        where: The table and the operation on it.

    Raises:
        LakeError: One of its six classes, depending on what failed.
        MemoryExhaustedError: DuckDB reached its memory limit.
        ConversionError: A value does not fit its column.
    """
    try:
        yield
    except (*STORAGE, duckdb.Error, UnicodeDecodeError) as error:
        found = translate(error, where)
        if found is None:
            raise
        raise found from None


def classify(error: BaseException) -> Found:
    """Return which of the six classes an error is, and our words for what came."""
    text = _said(error)
    return _by_number(error, text) or _by_words(error, text)


def _by_number(error: BaseException, text: str) -> Found | None:
    code = getattr(error, "errno", None) or _number(_ERRNO, text) or _strerror(text)
    if code is not None and code in _CLASSES:
        return _CLASSES[code], os.strerror(code)
    status = getattr(error, "status_code", None) or _number(_HTTP, text)
    if status in _REFUSED or _KEY.search(text):
        return StorageRefusedError, f"HTTP {status}" if status else "a refusal"
    return (StorageAwayError, f"HTTP {status}") if status else None


def _by_words(error: BaseException, text: str) -> Found:
    file = str(error).partition('Cannot open file "')[2].partition('"')[0]
    if file and _is_decoded_wrongly(file):
        return PathUndecodableError, "one that a reader decodes to other characters"
    if isinstance(error, duckdb.Error) and not text:
        # Before Python 3.11.3 a message that is not valid text is lost on its way from C++.
        return PathUndecodableError, _NO_TEXT
    if is_broken_file(text):
        return LogDamagedError, "a damaged data file: it is no whole Parquet file"
    plain = _PLACE.sub(" ", text)
    found = ((kind, words) for phrase, kind, words in _PHRASES if re.search(phrase, plain))
    return next(found, (StorageAwayError, type(error).__name__))


def _said(error: BaseException) -> str:
    """Return an engine's message on one line, without its stack and the statement."""
    text = re.split(r"\n+ +0: |\n+LINE \d+: ", str(error))[0]
    return re.sub(r"(\x1b\[\d+m|\s|↳)+", " ", text).strip()


def _is_decoded_wrongly(file: str) -> bool:
    """Is a file missing because DuckDB decoded its name differently from the log?"""
    root = get_settings().lake
    if not file.isprintable() or (unquote(root) != root and file.startswith(unquote(root))):
        return True
    folders = [str(folder) for folder in PurePath(file).parents if file.startswith(root)]
    entries = (entry for folder in folders[:3] for entry in storage.walk(f"{folder}/_delta_log"))
    return any(
        _BROKEN_ESCAPE.search(storage.read_text(entry.place) or "")
        for entry in entries
        if entry.place.endswith(".json")
    )


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.findall(text)
    return int(found[-1]) if found else None


def _strerror(text: str) -> int | None:
    return next((code for words, code in _STRERRORS.items() if text.endswith(words)), None)
