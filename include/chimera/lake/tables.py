"""Names, places and versions of the lake's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import TableNotFoundError

from include.chimera.contracts import CONTRACTS
from include.chimera.lake import storage
from include.chimera.lake.failures import storage_errors
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# Only app transactions with a time expire: the fences (see `fences`), far later than any attempt
# lives; watermarks and consumed versions have none.
_PROPERTIES: dict[str, str | None] = {"delta.setTransactionRetentionDuration": "interval 7 days"}

_FIRSTS = (f"{0:020d}.json", "_last_checkpoint")


def folder_of(name: str) -> str:
    """Return where the table `<layer>.<table>` stands."""
    layer, table = name.split(".", 1)
    return f"{get_settings().lake}/{layer}/{table}"


def open_table(
    name: str, version: int | None = None, *, has_files: bool = True
) -> DeltaTable | None:
    """Load a table at a version (None: the newest), or None where it does not exist yet.

    Args:
        name: `<layer>.<table>`.
        version: The version.
        has_files: Whether the list of its files is loaded too. Without it a table of 1,000 files
            opens as fast as one of ten; it then knows its version, columns, properties and
            history, but has no files or partitions to list and can't be written.

    Raises:
        StorageError: The lake's disk or store does not answer, or no longer lets us in.
    """
    with storage_errors(f"opening {name}"):
        try:
            return DeltaTable(folder_of(name), version=version, without_files=not has_files)
        except TableNotFoundError:
            return None


def create_table(
    name: str,
    schema: pa.Schema | Schema,
    partition_by: list[str],
    properties: Mapping[str, str] | None = None,
) -> DeltaTable:
    """Return the table, created with this schema where it does not exist yet.

    Args:
        name: `<layer>.<table>`.
        schema: Its columns.
        partition_by: Its partition columns.
        properties: Delta table properties beside our own.
    """
    folder = folder_of(name)
    storage.make_folder(folder)
    return DeltaTable.create(
        folder,
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


def schema_names() -> list[str]:
    """Return the lake's schemas (layers), sorted."""
    return [name for name in storage.folders(get_settings().lake) if not name.startswith("_")]


def table_names() -> list[str]:
    """Return the lake's tables, sorted: the folders whose log has a first version or a checkpoint.

    No log is read, so that a lake of many tables is listed fast.
    """
    found = [
        f"{schema}.{table}"
        for schema in schema_names()
        for table in storage.folders(f"{get_settings().lake}/{schema}")
        if not table.startswith("_")
    ]
    known: set[str] = set()
    for first in _FIRSTS:
        asked = [name for name in found if name not in known]
        places = [f"{folder_of(name)}/_delta_log/{first}" for name in asked]
        answers = zip(asked, storage.existing(places), strict=True)
        known |= {name for name, is_there in answers if is_there}
    return [name for name in found if name in known]


def drop_table(name: str) -> None:
    """Delete a table and its files; one that is not there is no failure."""
    storage.delete_folder(folder_of(name))


def row_count(table: DeltaTable) -> int:
    """Count rows from the log's statistics, without reading data."""
    counts: list[Any] = pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist()
    return sum(counts)
