"""The common calls of delta-rs in Python, on the same files: a log is opened in microseconds.

What is not here is done by delta-rs itself, on the same folder: compaction, restore, changes of
metadata, and each commit that meets another one. So the rules of conflicts are delta-rs' own, and
every reader can read what is written here. `tests/integration/simulation` plays schedules on both
and compares them.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable, Schema

_ENGINE = {"engineInfo": "delta-rs:py-1.6.3", "clientVersion": "delta-rs.py-1.6.3"}
_schema = lru_cache(None)(Schema.from_json)


class _UnfitError(Exception):
    """A log that only delta-rs is to read: damaged, or without its beginning."""


@dataclass(frozen=True)
class _State:
    """A table at one version."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    told: tuple[dict[str, Any], ...] = ()

    def after(self, actions: list[dict[str, Any]], number: int) -> _State:
        files, marks, meta, told = dict(self.files), dict(self.marks), self.meta, {}
        for action in actions:
            ((kind, content),) = action.items()
            if kind == "add":
                files[unquote(content["path"])] = content
            elif kind == "remove":
                files.pop(unquote(content["path"]), None)
            elif kind == "txn":
                marks[content["appId"]] = content["version"]
            elif kind == "metaData":
                meta = content
            elif kind == "commitInfo":
                told = {**content, "version": number}
        # A file that one commit removes and adds stays.
        again = {
            unquote(action["add"]["path"]): action["add"] for action in actions if "add" in action
        }
        return _State({**files, **again}, marks, meta, (*self.told, told))


_Seen = tuple[tuple[str, int, int], ...]
_states: dict[tuple[str, _Seen], _State] = {}


def forget() -> None:
    """Forget what was read; another world begins."""
    _states.clear()


def _entries(folder: str) -> _Seen:
    try:
        found = sorted(
            (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
            for entry in os.scandir(f"{folder}/_delta_log")
            if entry.name.endswith(".json") and entry.name[:-5].isdigit()
        )
    except FileNotFoundError:
        return ()
    if any(int(name[:-5]) != number or size < 9 for number, (name, size, _) in enumerate(found)):
        raise _UnfitError
    return tuple(found)


def _state(folder: str, entries: _Seen) -> _State:
    if not entries:
        return _State()
    key = (folder, entries)
    if key not in _states:
        *before, (name, _, _) = entries
        lines = Path(folder, "_delta_log", name).read_text(encoding="utf-8").splitlines()
        actions = [json.loads(line) for line in lines]
        _states[key] = _state(folder, tuple(before)).after(actions, len(before))
    return _states[key]


class QuickTable:
    """As `deltalake.DeltaTable`, for the calls that the product makes most."""

    def __init__(self, table_uri: Any, version: int | None = None, **options: Any) -> None:
        self._folder = str(table_uri).removeprefix("file://").rstrip("/")
        self._options = options
        self._load(version)

    def _load(self, version: int | None) -> None:
        self._real: DeltaTable | None = None
        try:
            entries = _entries(self._folder)
            self._entries = entries if version is None else entries[: version + 1]
            self._state = _state(self._folder, self._entries)
        except (_UnfitError, ValueError, KeyError):
            entries = ()
        if not entries or (version is not None and version >= len(entries)):
            self._real = DeltaTable(self._folder, version=version, **self._options)

    def __getattr__(self, name: str) -> Any:
        """Let delta-rs do it, from the same version."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._delta_rs(), name)

    def _delta_rs(self) -> DeltaTable:
        if self._real is None:
            return DeltaTable(self._folder, version=self.version())
        return self._real

    def _is_newest(self) -> bool:
        return not Path(self._folder, f"_delta_log/{self.version() + 1:020d}.json").exists()

    @property
    def table_uri(self) -> str:
        return f"file://{self._folder}/"

    def version(self) -> int:
        return self._real.version() if self._real else len(self._entries) - 1

    def metadata(self) -> Any:
        if self._real:
            return self._real.metadata()
        meta = self._state.meta
        return SimpleNamespace(
            id=meta["id"],
            name=meta.get("name"),
            description=meta.get("description"),
            partition_columns=meta["partitionColumns"],
            configuration=meta["configuration"],
        )

    def schema(self) -> Schema:
        return self._real.schema() if self._real else _schema(self._state.meta["schemaString"])

    def transaction_version(self, app_id: str) -> int | None:
        if self._real:
            return self._real.transaction_version(app_id)
        return self._state.marks.get(app_id)

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        if self._real or not self._is_newest():  # whose numbers are delta-rs' own
            return self._delta_rs().history(limit)
        return [dict(told) for told in reversed(self._state.told)][:limit]

    def file_uris(self) -> list[str]:
        if self._real:
            return self._real.file_uris()
        return [f"{self._folder}/{path}" for path in self._state.files]

    def partitions(self) -> list[dict[str, Any]]:
        if self._real:
            return self._real.partitions()
        found = {json.dumps(add["partitionValues"]) for add in self._state.files.values()}
        return [json.loads(values) for values in sorted(found)] if self._columns else []

    @property
    def _columns(self) -> list[str]:
        return list(self._state.meta["partitionColumns"])

    def get_add_actions(self, *, flatten: bool = False) -> Any:
        if self._real or not flatten:
            return self._delta_rs().get_add_actions(flatten=flatten)
        adds = list(self._state.files.values())
        counts = [json.loads(add.get("stats") or "{}").get("numRecords") for add in adds]
        columns = {
            "path": pa.array([add["path"] for add in adds], pa.string()),
            "num_records": pa.array(counts, pa.int64()),
            "size_bytes": pa.array([add["size"] for add in adds], pa.int64()),
        }
        for name in self._columns:
            values = [add["partitionValues"].get(name) for add in adds]
            columns[f"partition.{name}"] = pa.array(values, pa.string())
        return pa.table(columns)

    def update_incremental(self) -> None:
        if self._real:
            self._real.update_incremental()
        else:
            self._load(None)

    def create_write_transaction(
        self, actions: list[Any], mode: str, schema: Schema, **more: Any
    ) -> None:
        """Commit, if nobody has since; else let delta-rs decide whether the two conflict."""
        if self._real or not self._is_newest() or not self._write(actions, mode, schema, **more):
            self._delta_rs().create_write_transaction(actions, mode, schema, **more)
        self._load(None)

    def _write(  # noqa: PLR0913 - delta-rs' own arguments
        self,
        actions: list[Any],
        mode: str,
        schema: Schema,
        *,
        partition_by: list[str],
        commit_properties: Any,
        partition_filters: list[tuple[str, str, list[str]]] | None = None,
    ) -> bool:
        del partition_by
        now = int(time.time() * 1000)
        told = {
            "timestamp": now,
            "operation": "WRITE",
            "operationParameters": {"mode": mode.title()},
        }
        lines: list[dict[str, Any]] = [
            {"commitInfo": {**told, **_ENGINE, **commit_properties.custom_metadata}}
        ]
        if schema != self.schema():
            lines.append({"metaData": {**self._state.meta, "schemaString": schema.to_json()}})
        lines += [
            {"add": {
                "path": action.path, "partitionValues": dict(action.partition_values),
                "size": action.size, "modificationTime": action.modification_time,
                "dataChange": action.data_change, "stats": action.stats,
            }}
            for action in actions
        ]  # fmt: skip
        for add in self._state.files.values() if mode == "overwrite" else ():
            values = add["partitionValues"]
            if all(values.get(column) in wanted for column, _, wanted in partition_filters or ()):
                gone = {"dataChange": True, "deletionTimestamp": now, "extendedFileMetadata": True}
                gone |= {"path": add["path"], "partitionValues": values, "size": add["size"]}
                lines.append({"remove": gone})
        for mark in commit_properties.app_transactions:
            seen = {"lastUpdated": mark.last_updated} if mark.last_updated is not None else {}
            lines.append({"txn": {"appId": mark.app_id, "version": mark.version, **seen}})
        target = f"{self._folder}/_delta_log/{self.version() + 1:020d}.json"
        return _create(target, "\n".join(map(json.dumps, lines)))

    @classmethod
    def create(cls, place: str, schema: Schema, **options: Any) -> QuickTable:
        folder = str(place).removeprefix("file://").rstrip("/")
        if not _entries(folder):
            text = schema.to_json()
            if "timestamp_ntz" in text:  # which asks for a table feature
                DeltaTable.create(folder, schema, **options)
            else:
                _begin(folder, text, **options)
        return cls(folder)


def _begin(  # noqa: PLR0913 - delta-rs' own arguments
    folder: str,
    schema: str,
    *,
    mode: str,
    partition_by: list[str],
    configuration: dict[str, str],
    description: str | None,
) -> None:
    del mode
    Path(folder, "_delta_log").mkdir(parents=True, exist_ok=True)
    now = int(time.time() * 1000)
    meta = {"id": str(uuid4()), "name": None, "description": description, "schemaString": schema}
    meta |= {"format": {"provider": "parquet", "options": {}}, "partitionColumns": partition_by}
    lines = [
        {"commitInfo": {"timestamp": now, "operation": "CREATE TABLE", **_ENGINE}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {**meta, "createdTime": now, "configuration": configuration}},
    ]
    _create(f"{folder}/_delta_log/{0:020d}.json", "\n".join(map(json.dumps, lines)))


def _create(target: str, text: str) -> bool:
    try:
        with Path(target).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
