"""Read the lake's tables in a DuckDB session, each pinned to one version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

from deltalake import DeltaTable

from include.chimera.lake.delta.columns import comments_of
from include.chimera.lake.delta.tables import lake_relations, missing_columns, open_table
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import (
    connect,
    described,
    duckdb_type,
    identifier,
    quote,
)
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.relation import Relation
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from include.chimera.contracts import Contract
    from include.chimera.lake.dbt_plugin.views import View

_PARTITION = re.compile(r"(?<=/)([^/=]+)=[^/]*(?=/)")
_PINNED = re.compile(r"^create or replace view (.+?) as from .* version => (\d+)\);$", re.MULTILINE)


def readable_relations() -> tuple[list[Relation], list[Relation]]:
    """Return the tables and views that this process reads: a preview, the published tables."""
    published = get_settings().published
    if published is None:
        return lake_relations()
    return sorted(map(Relation.parse, published.versions)), []


def open_readable(name: Relation | str, *, has_files: bool = True) -> DeltaTable | None:
    """Open a table as this process reads it; None if there is none.

    That is the lake's newest version; in a preview, the published version of the other lake, to
    which nothing is ever committed: commits open their table by `open_table`.

    Args:
        name: The table.
        has_files: As in `open_table`.

    Raises:
        LakeError: The table's folder can't be read as a table.
    """
    published = get_settings().published
    if published is None:
        return open_table(name, has_files=has_files)
    versions = {Relation.parse(table): version for table, version in published.versions.items()}
    version = versions.get(Relation.of(name))
    if version is None:
        return None
    with storage_errors(f"{name}, opening version {version} of what is published"):
        return DeltaTable(_readable_folder(name), version=version, without_files=not has_files)


def _readable_folder(name: Relation | str) -> str:
    published = get_settings().published
    return folder_of(name, published.lake if published else "")


def scan(table: DeltaTable, name: Relation | str) -> str:
    """Return a query of the rows of a readable table at the loaded version."""
    place = quote(_readable_folder(name))
    return f"select * from delta_scan({place}, version => {table.version()})"


def live_rows(table: DeltaTable, contract: Contract) -> str:
    """Return a query of a bronze or ops table's rows with all columns of its contract.

    A table that an older release made may lack some, until its next commit adds them.
    """
    return padded(scan(table, contract.name), table, contract)


def padded(rows: str, table: DeltaTable, contract: Contract) -> str:
    """Return the rows of a table with the contract's columns that it lacks, which are null."""
    lacking = missing_columns(table, contract)
    nulls = "".join(
        f", cast(null as {duckdb_type(column.type)}) as {identifier(column.name)}"
        for column in lacking
    )
    return f"select *{nulls} from ({rows})" if lacking else rows


def pin(connection: duckdb.DuckDBPyConnection, table: DeltaTable, name: Relation | str) -> str:
    """Return a query of the table's rows at the loaded version, for a session that asks often.

    Unlike `scan`, it does not read the log anew each time that a statement is planned, only the
    list of files each time that rows are read.
    """
    # A table that is dropped and made anew begins with the same versions.
    database = identifier(f"{name}, version {table.version()}, {uuid4().hex}")
    connection.execute(
        f"attach {quote(_readable_folder(name))} as {database} "
        f"(type delta, read_only, pin_snapshot true, version {table.version()})"
    )
    rows = f"select * from {database}"
    connection.execute(f"describe {rows}")  # which reads the log
    return rows


def views_place() -> str:
    """Return the place of the script that pins readers to one snapshot."""
    return f"{get_settings().lake}/views.sql"


def pinning_views(title: str, versions: Mapping[str, int]) -> str:
    """Return a DuckDB script that loads `delta` and makes a view of each table at its version.

    It is one transaction: of a database that several sessions share, none sees two snapshots.
    """
    tables = sorted((Relation.parse(table), version) for table, version in versions.items())
    schemas = sorted({table.schema for table, _ in tables})
    lines = [f"-- {title}", "load delta;", "begin transaction;"]
    lines += [f"create schema if not exists {identifier(schema)};" for schema in schemas]
    lines += [
        f"create or replace view {relation_of(table)} as "
        f"from delta_scan({quote(folder_of(table))}, version => {version});"
        for table, version in tables
    ]
    return "\n".join([*lines, "commit;"]) + "\n"


def pinned_versions() -> dict[Relation, int]:
    """Return the versions that the script for readers names; {}: there is none yet.

    Raises:
        LakeError: The lake can't be read.
    """
    with storage_errors("reading which versions are pinned"):
        text = storage.read_text(views_place()) or ""
    return {Relation.parse(name): int(version) for name, version in _PINNED.findall(text)}


def ask(name: Relation | str, query: str) -> list[tuple[Any, ...]]:
    """Run a query of a table, which `{}` stands for; return no rows if the table is missing."""
    table = open_table(name)
    if table is None:
        return []
    with connect() as connection:
        return connection.execute(query.format(scan(table, name))).fetchall()


def read_files(folder: str, paths: Sequence[str], schema: pa.Schema) -> str:
    """Return a query of Parquet files below `folder` with the schema's columns.

    Partition columns come from the paths, in the schema's types.
    """
    columns = ", ".join(identifier(name) for name in schema.names)
    return f"select {columns} from ({read_files_as_they_are(folder, paths, schema)})"


def read_files_as_they_are(folder: str, paths: Sequence[str], schema: pa.Schema) -> str:
    """Return a query of Parquet files with all their columns; without files, `schema`'s columns."""
    if not paths:
        return empty(schema)
    places = ", ".join(quote(f"{folder}/{path}") for path in paths)
    named = {unquote(name) for name in _PARTITION.findall(f"/{paths[0]}")}
    kinds = ", ".join(
        f"{quote(field.name)}: {duckdb_type(field.type)}" for field in schema if field.name in named
    )
    types = f", hive_types = {{{kinds}}}" if kinds else ""
    return (
        f"select * from read_parquet([{places}], "
        f"hive_partitioning = true, hive_types_autocast = false{types})"
    )


def empty(schema: pa.Schema) -> str:
    """Return a query of no rows with the schema's columns and types."""
    columns = ", ".join(
        f"cast(null as {kind}) as {identifier(name)}" for name, kind in described(schema)
    )
    return f"select {columns} where false"


def define(
    connection: duckdb.DuckDBPyConnection, name: Relation, query: str, table: DeltaTable | None
) -> None:
    """Create a session view of the query, with the table's comments."""
    connection.execute(f"create schema if not exists {identifier(name.schema)}")
    connection.execute(f"create or replace view {relation_of(name)} as {query}")
    if table is not None:
        _comment(connection, name, table.metadata().description, comments_of(table.schema()))


def show_view(connection: duckdb.DuckDBPyConnection, name: Relation, view: View) -> None:
    """Create a session view for a view of the lake."""
    define(connection, name, view.query, None)
    _comment(connection, name, view.description, view.comments)


def _comment(
    connection: duckdb.DuckDBPyConnection,
    name: Relation,
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


def relation_of(name: Relation | str) -> str:
    """Return a relation's quoted SQL name."""
    relation = Relation.of(name)
    return f"{identifier(relation.schema)}.{identifier(relation.identifier)}"


def remove(connection: duckdb.DuckDBPyConnection, name: Relation) -> None:
    """Drop a relation's view from the session, if there is one."""
    connection.execute(f"drop view if exists {relation_of(name)}")
