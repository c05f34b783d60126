"""What a power cut may not take: new files and log entries reach the disk before they count.

delta-rs and DuckDB leave writing back to the operating system. A power cut can then leave a log
entry of zero bytes, which reads as an empty commit, or an entry whose data files are empty
(measured with delta-rs 1.6.3). Object stores answer only once an object is durable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG_ENTRIES = 3


def local_folder(uri: str) -> Path | None:
    """Return the folder of a table on local disk, None where it is in an object store."""
    parsed = urlparse(uri)
    if parsed.scheme not in ("", "file"):
        return None
    return Path(unquote(parsed.path)) if parsed.scheme else Path(uri)


def sync_files(uri: str, paths: Sequence[str]) -> None:
    """Write data files and the folders that name them to disk; to be done before the commit."""
    root = local_folder(uri)
    if root is None or not paths:
        return
    folders: set[Path] = set()
    for path in paths:
        place = root / path
        _sync(place)
        folders.update((place.parent, root))
    for folder in folders:
        _sync(folder)


def sync_log(uri: str) -> None:
    """Write the newest log entries and the log's folder to disk; to be done after the commit."""
    root = local_folder(uri)
    if root is None:
        return
    log = root / "_delta_log"
    for entry in sorted(log.glob("*.json"))[-_LOG_ENTRIES:]:
        _sync(entry)
    _sync(log)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
