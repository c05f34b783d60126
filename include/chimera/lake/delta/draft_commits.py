"""Several commits published as one: tried on a copy of a table's log, then added to it at once.

delta-rs changes rows, partitioning, properties, comments and constraints by different calls, each
of which makes a version of its own: a reader, or whoever builds after a crash in between, would
meet a table that is neither the old nor the new one. A draft lets delta-rs make them all on a
private copy of the log; the actions that it wrote then become one entry of the real log, by a write
that fails where another writer was first (docs/adr/0018).
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
_CHECKPOINT_EVERY = 100  # as delta-rs


def copy_log(table: DeltaTable, folder: str, place: str) -> DeltaTable:
    """Return a table in the local folder `place` with the log of `table` up to its version."""
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
    """Make what was committed to the draft, from `version` on, this one version of the table.

    Raises:
        CommitFailedError: Another writer has made this version.
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
    """Return the actions of several commits, a line each, as one's: the last word of each kind."""
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
