"""Ways in which a table of the lake gets damaged, each applied to real files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from include.chimera.errors import (
    LogDamagedError,
    NotDeltaError,
    PathUndecodableError,
    ProtocolUnsupportedError,
    StorageAwayError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = "canary-4711@example.org"


def make(lake: Path, name: str = "orders", *, has_checkpoint: bool = False) -> Path:
    """Write a table of three versions, as another writer does."""
    table = lake / "dev" / name
    for number in range(3):
        rows = pa.table({"id": pa.array([number]), "text": [CANARY]})
        write_deltalake(str(table), rows, mode="append")
    if has_checkpoint:
        DeltaTable(str(table)).create_checkpoint()
    return table


def entry(table: Path, version: int) -> Path:
    """Return the file of a version's log entry."""
    return table / "_delta_log" / f"{version:020d}.json"


def _checkpoint(table: Path) -> Path:
    return next((table / "_delta_log").glob("*.checkpoint.parquet"))


def _rows(table: Path) -> Path:
    return min(table.glob("*.parquet"))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _rewrite(table: Path, version: int, old: str, new: str) -> None:
    text = entry(table, version).read_text()
    assert old in text
    entry(table, version).write_text(text.replace(old, new))


def _without(table: Path, action: str) -> None:
    lines = entry(table, 0).read_text().splitlines(keepends=True)
    entry(table, 0).write_text("".join(line for line in lines if f'"{action}"' not in line))


def protocol(table: Path, **protocol: object) -> None:
    """Give a table a protocol that another engine could have set."""
    lines = entry(table, 0).read_text().splitlines()
    actions = [
        {"protocol": protocol} if '"protocol"' in line else json.loads(line) for line in lines
    ]
    entry(table, 0).write_text("".join(json.dumps(action) + "\n" for action in actions))


def _feature(table: Path, name: str) -> None:
    both = {"readerFeatures": [name], "writerFeatures": [name]}
    protocol(table, minReaderVersion=3, minWriterVersion=7, **both)


def _replace_by_files(table: Path) -> None:
    shutil.rmtree(table)
    table.mkdir()
    (table / "export.csv").write_text("id\n1\n")


def _empty_log(table: Path) -> None:
    for file in (table / "_delta_log").iterdir():
        if file.name != "_last_checkpoint":
            file.unlink()


def _replace_by_file(table: Path) -> None:
    shutil.rmtree(table)
    table.write_text("a file where the table's folder should be")


# What it is, what does it to a table of three versions and a checkpoint at the last but one, and
# what the reader is told. A checkpoint stands in for the entries before it, so that a damage there
# shows once it is gone.
DAMAGES: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "entry cut off": (lambda table: _cut(entry(table, 2)), LogDamagedError, "no JSON"),
    "entry of garbage": (lambda table: entry(table, 2).write_bytes(b"\x00\xff\x13garbage"),
                         LogDamagedError, "no JSON"),
    "newest entry empty": (lambda table: entry(table, 2).write_bytes(b""),
                           LogDamagedError, "00000000000000000002.json holds no action"),
    "newest entry a line end": (lambda table: entry(table, 2).write_bytes(b"\n"),
                                LogDamagedError, "00000000000000000002.json holds no action"),
    "oldest entry empty": (lambda table: entry(table, 0).write_bytes(b""),
                           LogDamagedError, "00000000000000000000.json holds no action"),
    "no metadata": (lambda table: _without(table, "metaData"), LogDamagedError, "beginning"),
    "no protocol": (lambda table: _without(table, "protocol"), LogDamagedError, "beginning"),
    "oldest entry lost": (lambda table: entry(table, 0).unlink(), LogDamagedError, "beginning"),
    "middle entry lost": (lambda table: entry(table, 1).unlink(), LogDamagedError, "missing"),
    "all entries lost": (_empty_log, NotDeltaError, "without a Delta log"),
    "partitions by another spelling": (lambda table: _rewrite(table, 0, '"partitionColumns":[]',
                                                              '"partitionColumns":["ID"]'),
                                       LogDamagedError, "none of its columns"),
    "type unknown": (lambda table: _rewrite(table, 0, r'\"long\"', r'\"interval\"'),
                     ProtocolUnsupportedError, "don't know"),
    "reader version": (lambda table: _rewrite(table, 0, '"minReaderVersion":1',
                                              '"minReaderVersion":99'),
                       ProtocolUnsupportedError, "don't know"),
    "reader feature": (lambda table: _feature(table, "somethingNew"),
                       ProtocolUnsupportedError, "don't know"),
    "another folder": (_replace_by_files, NotDeltaError, "1 files without"),
    "a file": (_replace_by_file, NotDeltaError, "no folder of a table"),
    "log is a file": (lambda table: (shutil.rmtree(table / "_delta_log"),
                                     (table / "_delta_log").write_text("x")),
                      NotDeltaError, "Not a directory"),
    "an entry is a folder": (lambda table: (entry(table, 2).unlink(), entry(table, 2).mkdir()),
                             LogDamagedError, "00000000000000000002.json holds no action"),
    "a folder is the next entry": (lambda table: entry(table, 3).mkdir(),
                                   LogDamagedError, "00000000000000000003.json holds no action"),
    "data file lost": (lambda table: _rows(table).unlink(), StorageAwayError, "not there"),
    "data file cut off": (lambda table: _cut(_rows(table)), LogDamagedError, "data file"),
    "data file empty": (lambda table: _rows(table).write_bytes(b""), LogDamagedError, "data file"),
    "data file of garbage": (lambda table: _rows(table).write_bytes(b"garbage " * 99),
                             LogDamagedError, "data file"),
    "broken % in a path": (lambda table: _rewrite(table, 2, '"path":"', '"path":"%zz'),
                           PathUndecodableError, "decode"),
    "no UTF-8 in a path": (lambda table: _rewrite(table, 2, '"path":"', '"path":"%ff'),
                           PathUndecodableError, "UTF-8"),
}  # fmt: skip
CHECKPOINT_DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": lambda table: _cut(_checkpoint(table)),
    "garbage": lambda table: _checkpoint(table).write_bytes(b"garbage " * 9),
    "tiny": lambda table: _checkpoint(table).write_bytes(b"garbage"),
    "empty": lambda table: _checkpoint(table).write_bytes(b""),
    "lost": lambda table: (_checkpoint(table).unlink(), entry(table, 0).unlink()),
}
