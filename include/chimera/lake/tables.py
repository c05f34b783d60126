"""Names, places and versions of the lake's tables."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import LakeError, LogDamagedError, NotDeltaError, StorageRefusedError
from include.chimera.lake import places, storage
from include.chimera.lake.failures import classify, lake_error, storage_errors
from include.chimera.lake.places import folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.chimera.relation import Relation

# Only app transactions with a time expire: the fences (see `fences`), far later than any attempt
# lives; watermarks and consumed versions have none.
_PROPERTIES: dict[str, str | None] = {"delta.setTransactionRetentionDuration": "interval 7 days"}

logger = logging.getLogger(__name__)
_LOG = "_delta_log"
_SMALLEST = len('{"txn":{}}')  # bytes of an entry with one action
# What a build leaves that died before its table's first commit.
_STAGED = re.compile(r"(^|/)part-[0-9a-f-]{36}\.parquet$|#\d+$|\.tmp$")


def open_table(
    name: Relation | str, version: int | None = None, *, has_files: bool = True
) -> DeltaTable | None:
    """Load a table at a version (None: the newest), or None where it does not exist yet.

    Args:
        name: The table.
        version: The version.
        has_files: Whether the list of its files is loaded too. Without it a table of 1,000 files
            opens as fast as one of ten; it then knows its version, columns, properties and
            history, but has no files or partitions to list and can't be written.

    Raises:
        LakeError: What stands there can't be read; the class says why.
    """
    where = f"{name}, opening it"
    with storage_errors(where):
        _require_whole_log(name, where)
        try:
            return DeltaTable(folder_of(name), version=version, without_files=not has_files)
        except TableNotFoundError as error:
            places.forget()
            _require_absence(name, error, where)
            return None
        except DeltaError:
            newest = None if version is None else open_table(name, has_files=False)
            if version is None or newest is None or newest.version() >= version:
                raise
            return None


def _require_absence(name: Relation | str, error: TableNotFoundError, where: str) -> None:
    """Refuse to take a table for one that is not there yet, unless nothing else is either.

    Raises:
        LakeError: Its folder can't be entered, or holds what no unfinished first build leaves.
    """
    if classify(error)[0] is StorageRefusedError:
        raise error
    folder = folder_of(name)
    found = [file.place[len(folder) + 1 :] for file in storage.walk(folder)]
    others = [place for place in found if not _STAGED.search(place)]
    if any(place.startswith(f"{_LOG}/") for place in others):
        raise lake_error(LogDamagedError, "a damaged log: no version is left of it", where)
    if others:
        raise lake_error(NotDeltaError, f"{len(others)} files without a Delta log", where)


def _require_whole_log(name: Relation | str, where: str) -> None:
    """Refuse a log with a hollow entry: a power cut leaves one, which readers take for no commit.

    Raises:
        LogDamagedError: There is one.
    """
    hollow = [
        entry.place
        for entry in storage.walk(f"{folder_of(name)}/{_LOG}")
        if entry.size_bytes < _SMALLEST and _is_entry(entry.place)
    ]
    if hollow:
        came = f"a damaged log: {min(hollow).rpartition('/')[2]} holds no action"
        raise lake_error(LogDamagedError, came, where)


def _is_entry(place: str) -> bool:
    return place.endswith((".json", ".parquet"))


@contextmanager
def leaving_out(name: Relation | str) -> Iterator[None]:
    """Do something with one table of many: where it can't be read, say so and go on."""
    try:
        with storage_errors(f"reading {name}"):
            yield
    except LakeError as error:
        logger.error("%s is left out: %s", name, error)  # noqa: TRY400 - the text says it all


def create_table(
    name: Relation | str,
    schema: pa.Schema | Schema,
    partition_by: list[str],
    properties: Mapping[str, str] | None = None,
) -> DeltaTable:
    """Return the table, created with this schema where it does not exist yet.

    Args:
        name: The table.
        schema: Its columns.
        partition_by: Its partition columns.
        properties: Delta table properties beside our own.
    """
    folder = folder_of(name)
    storage.make_folder(folder)
    return create_at(folder, schema, partition_by, properties)


def create_at(
    place: str,
    schema: pa.Schema | Schema,
    partition_by: list[str],
    properties: Mapping[str, str] | None = None,
) -> DeltaTable:
    """Return the table in the folder `place`, else as `create_table`."""
    return DeltaTable.create(
        place,
        schema if isinstance(schema, Schema) else Schema.from_arrow(schema),
        mode="ignore",
        partition_by=partition_by,
        configuration={**_PROPERTIES, **(properties or {})},
    )


def contract_table(name: str) -> DeltaTable:
    """Return a bronze or ops table, created from its contract where it does not exist yet."""
    table = open_table(name)
    if table is not None:
        return table
    contract = CONTRACTS[name]
    return create_table(name, contract.schema, list(contract.partition_by))


def table_names() -> list[str]:
    """Return the lake's tables as text, sorted."""
    return [str(relation) for relation in lake_tables()]


def lake_tables() -> list[Relation]:
    """Return the lake's tables, sorted: the folders that have a log, whole or damaged.

    No log is read, so that a lake of many tables is listed fast.
    """
    found = places.table_folders()
    has_log = storage.existing([f"{folder}/{_LOG}" for folder in found.values()])
    return [name for name, is_there in zip(found, has_log, strict=True) if is_there]


def drop_table(name: Relation | str) -> None:
    """Delete a table and its files; one that is not there is no failure."""
    storage.delete_folder(folder_of(name))
    places.forget()


def row_count(table: DeltaTable) -> int:
    """Count rows from the log's statistics; where a file has none, from the files themselves."""
    counts: list[Any] = pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist()
    if None in counts:
        return int(table.to_pyarrow_dataset().count_rows())
    return sum(counts)
