"""Publish several commits as one: make them on a copy of a table's log, then add them at once.

delta-rs changes rows, partitioning, properties, comments and constraints by different calls, each
of which creates a version. A reader, or a build after a crash in between, would see a table that is
neither the old nor the new one. With a draft, delta-rs makes all commits on a private copy of the
log; their actions then become one entry of the real log, by a write that fails if another writer
was first (docs/adr/0018).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from include.chimera.lake.store import storage

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOG = "_delta_log"
_VERSION = re.compile(r"(\d{20})\.(?P<kind>json|checkpoint.*parquet)")
_CHECKPOINT_EVERY = 100  # commits, as in delta-rs


def copy_log(table: DeltaTable, folder: str, place: str) -> DeltaTable:
    """Copy the log of `table`, up to its loaded version, to the local folder `place`."""
    names: dict[str, int] = {}
    start = 0
    for name in storage.files(f"{folder}/{_LOG}"):
        found = _VERSION.fullmatch(name)
        if found and int(found[1]) <= table.version():
            names[name] = int(found[1])
            start = max(start, names[name] if found["kind"] != "json" else 0)
    log = Path(place) / _LOG
    log.mkdir()
    for name, version in names.items():
        if version >= start:
            with storage.open_file(f"{folder}/{_LOG}/{name}") as file:
                (log / name).write_bytes(file.read())
    return DeltaTable(place)


def publish_draft(place: str, folder: str, version: int) -> None:
    """Publish the draft's commits, from `version` on, as this one version of the table.

    Raises:
        CommitFailedError: Another writer has already made this version.
    """
    text = "".join(f"{line}\n" for line in _as_one(_entries(Path(place) / _LOG, version)))
    if not storage.create_text(f"{folder}/{_LOG}/{version:020d}.json", text):
        message = f"version {version} was made by another writer"
        raise CommitFailedError(message)
    if version and version % _CHECKPOINT_EVERY == 0:
        DeltaTable(folder).create_checkpoint()


def _entries(log: Path, version: int) -> Iterable[str]:
    for path in sorted(log.glob("*.json")):
        if path.stem.isdigit() and int(path.stem) >= version:
            yield from path.read_text(encoding="utf-8").split("\n")


def _as_one(actions: Iterable[str]) -> list[str]:
    """Merge the actions (JSON lines) of several commits into one's: the last of each kind wins."""
    words: dict[str, str] = {}
    adds: dict[str, str] = {}
    removes: dict[str, str] = {}
    for action in filter(None, actions):
        ((kind, content),) = json.loads(action).items()
        if kind == "add":
            adds[content["path"]] = action
        elif kind == "remove":
            if adds.pop(content["path"], None) is None:
                removes[content["path"]] = action
        else:
            words[kind + content["appId"] if kind == "txn" else kind] = action
    return [*words.values(), *removes.values(), *adds.values()]
