"""Names, places and versions of the lake's tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import TableNotFoundError

from include.chimera.contracts import CONTRACTS
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Only app transactions with a time expire: the fences (see `fences`), far later than any attempt
# lives; watermarks and consumed versions have none.
_PROPERTIES: dict[str, str | None] = {"delta.setTransactionRetentionDuration": "interval 7 days"}


def folder_of(name: str) -> str:
    """Return where the table `<layer>.<table>` stands."""
    layer, table = name.split(".", 1)
    return f"{get_settings().lake}/{layer}/{table}"


def open_table(name: str, version: int | None = None) -> DeltaTable | None:
    """Load a table at a version (None: the newest), or None where it does not exist yet."""
    try:
        return DeltaTable(folder_of(name), version=version)
    except TableNotFoundError:
        return None


def create_table(name: str, schema: pa.Schema, partition_by: list[str]) -> DeltaTable:
    """Return the table, created with this schema where it does not exist yet."""
    folder = folder_of(name)
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return DeltaTable.create(
        folder,
        Schema.from_arrow(schema),
        mode="ignore",
        partition_by=partition_by,
        configuration=_PROPERTIES,
    )


def contract_table(name: str) -> DeltaTable:
    """Return a bronze or ops table, created from its contract where it does not exist yet."""
    table = open_table(name)
    if table is not None:
        return table
    contract = CONTRACTS[name]
    return create_table(name, contract.schema, list(contract.partition_by))


def table_names() -> Iterator[str]:
    """Yield `<layer>.<table>` for each Delta table of the lake, sorted."""
    root = Path(get_settings().lake)
    for log in sorted(root.glob("[!_]*/*/_delta_log")):
        yield f"{log.parent.parent.name}.{log.parent.name}"


def row_count(table: DeltaTable) -> int:
    """Count rows from the log's statistics, without reading data."""
    counts: list[Any] = pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist()
    return sum(counts)
