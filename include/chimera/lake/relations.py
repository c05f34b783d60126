"""The lake's tables as relations of a DuckDB session, each pinned to one version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from include.chimera.contracts import BRONZE, CONTRACTS
from include.chimera.lake.engine import identifier, quote
from include.chimera.lake.tables import folder_of, open_table, table_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from deltalake import DeltaTable


def scan(table: DeltaTable, name: str) -> str:
    """Return a query of the table's rows at the loaded version."""
    return f"select * from delta_scan({quote(folder_of(name))}, version => {table.version()})"


def read_files(folder: str, paths: Sequence[str], schema: pa.Schema) -> str:
    """Return a query of the schema's columns of Parquet files below `folder`.

    Partition columns come from the paths, as text.
    """
    columns = ", ".join(identifier(name) for name in schema.names)
    return f"select {columns} from ({read_files_as_they_are(folder, paths, schema)})"


def read_files_as_they_are(folder: str, paths: Sequence[str], schema: pa.Schema) -> str:
    """Return a query of Parquet files with whatever columns they have; `schema` where none is."""
    if not paths:
        return empty(schema)
    places = ", ".join(quote(f"{folder}/{path}") for path in paths)
    return (
        f"select * from read_parquet([{places}], "
        "hive_partitioning = true, hive_types_autocast = false)"
    )


def empty(schema: pa.Schema) -> str:
    """Return a query of no rows with the schema's columns and types."""
    no_rows = schema.empty_table()  # noqa: F841 - DuckDB finds it by its name
    with duckdb.connect() as connection:
        described = connection.execute("describe from no_rows").fetchall()
    columns = ", ".join(
        f"cast(null as {kind}) as {identifier(name)}" for name, kind, *_ in described
    )
    return f"select {columns} where false"


def define_view(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Make the relation `<schema>.<table>` show the query's rows."""
    schema, table = name.split(".", 1)
    connection.execute(f"create schema if not exists {identifier(schema)}")
    connection.execute(
        f"create or replace view {identifier(schema)}.{identifier(table)} as {query}"
    )


def register(connection: duckdb.DuckDBPyConnection) -> dict[str, DeltaTable | None]:
    """Show every table of the lake, and each bronze table that does not exist yet as empty.

    Returns the tables by name, loaded at the version that the relations are pinned to.
    """
    found: dict[str, DeltaTable | None] = {name: open_table(name) for name in table_names()}
    for contract in BRONZE:
        found.setdefault(contract.name, None)
    for name, table in found.items():
        query = empty(CONTRACTS[name].schema) if table is None else scan(table, name)
        define_view(connection, name, query)
    return found
