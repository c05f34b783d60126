"""Survive a power cut: flush new data files and log entries to disk before relying on them.

delta-rs and DuckDB leave write-back to the operating system. A power cut can then leave a log entry
of zero bytes, which reads as an empty commit, or an entry whose data files are empty (measured with
delta-rs 1.6.3). Object stores answer only once an object is durable.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KINDS = ("json", "checkpoint.parquet")
_AT_ONCE = 8


def local_folder(uri: str) -> Path | None:
    """Return the folder of a table on local disk, None if it is in an object store."""
    parsed = urlparse(uri)
    if parsed.scheme not in ("", "file"):
        return None
    return Path(unquote(parsed.path)) if parsed.scheme else Path(uri)


def sync_files(uri: str, paths: Sequence[str]) -> None:
    """Flush data files and their folders to disk; call this before the commit."""
    root = local_folder(uri)
    if root is None or not paths:
        return
    folders = {root / parent for path in paths for parent in PurePath(path).parents}
    _sync([*(root / path for path in paths), *folders])


def sync_log(uri: str, base: int, version: int) -> None:
    """Flush the newest log entries and the log's folder to disk; call this after the commit.

    Args:
        uri: The table.
        base: The version that the commit was made from. Its entry and the one before are flushed
            too: their writers may not have done so yet, and ours can't be read without them.
        version: The newest version.
    """
    root = local_folder(uri)
    if root is None:
        return
    log = root / "_delta_log"
    names = [f"{number:020d}.{kind}" for number in range(base - 1, version + 1) for kind in _KINDS]
    entries = [log / name for name in (*names, "_last_checkpoint")]
    _sync([*(entry for entry in entries if entry.exists()), log])


def _sync(paths: Iterable[Path]) -> None:
    """Flush the paths in parallel: a journaling file system then writes its journal only once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(_flush, paths))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
