"""The lake's tables as relations of a DuckDB session, each pinned to one version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import duckdb

from include.chimera.contracts import BRONZE, CONTRACTS
from include.chimera.lake.engine import identifier, quote
from include.chimera.lake.tables import folder_of, open_table, schema_names, table_names
from include.chimera.lake.views import load_views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable

    from include.chimera.lake.views import View


logger = logging.getLogger(__name__)


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
    define(connection, name, query, None)


def define(
    connection: duckdb.DuckDBPyConnection, name: str, query: str, table: DeltaTable | None
) -> None:
    """Make the relation `<schema>.<table>` show the query's rows, with the table's comments."""
    connection.execute(f"create schema if not exists {identifier(name.split('.', 1)[0])}")
    connection.execute(f"create or replace view {relation_of(name)} as {query}")
    if table is not None:
        comments = {
            field.name: str(field.metadata.get("comment", "")) for field in table.schema().fields
        }
        _comment(connection, name, table.metadata().description, comments)


def show_view(connection: duckdb.DuckDBPyConnection, name: str, view: View) -> None:
    """Make a view of the lake a view of the session."""
    define(connection, name, view.query, None)
    _comment(connection, name, view.description, view.comments)


def _comment(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    description: str | None,
    comments: Mapping[str, str],
) -> None:
    relation = relation_of(name)
    if description:
        connection.execute(f"comment on view {relation} is {quote(description)}")
    for column, comment in comments.items():
        if comment:
            place = f"{relation}.{identifier(column)}"
            connection.execute(f"comment on column {place} is {quote(comment)}")


def relation_of(name: str) -> str:
    """Return `<schema>.<table>` as quoted SQL."""
    return ".".join(identifier(part) for part in name.split(".", 1))


def remove(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Take a relation out of the session, whatever it is there."""
    connection.execute(f"drop view if exists {relation_of(name)}")


def register(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[str, DeltaTable | None], dict[str, View]]:
    """Show every table and view of the lake, and each bronze table that does not exist as empty.

    Returns the tables by name, loaded at the version that the relations are pinned to, and the
    views' queries. A view whose tables are missing is left out, with a warning.
    """
    opened = {name: open_table(name) for name in table_names()}
    found: dict[str, DeltaTable | None] = {
        name: table for name, table in opened.items() if table is not None
    }
    for contract in BRONZE:
        found.setdefault(contract.name, None)
    for name, table in found.items():
        query = empty(CONTRACTS[name].schema) if table is None else scan(table, name)
        define(connection, name, query, table)
    waiting = load_views(schema_names())
    views = dict(waiting)
    is_moving = True
    while waiting and is_moving:
        is_moving = False
        for name, view in list(waiting.items()):
            try:
                show_view(connection, name, view)
            except duckdb.Error:
                continue  # perhaps it reads a view that comes later
            del waiting[name]
            is_moving = True
    for name in waiting:
        logger.warning("view %s can't be shown: a relation that it reads is missing", name)
    return found, views
