"""Map DuckDB's columns to Delta's types without changing a value.

Delta has fewer types than DuckDB. A missing type is widened if every value survives (unsigned and
huge integers; uuid, json and enum as text; arrays as lists); a value that would not survive fails
the query. A column whose type has no counterpart is refused by name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import Schema
from duckdb.sqltypes import DuckDBPyType

from include.chimera.errors import ContractError
from include.chimera.lake.store.duckdb_sessions import identifier
from include.chimera.lake.store.refused_values import NANOSECONDS, refuse
from include.chimera.relation import folded, spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_KEPT = frozenset(
    {
        "boolean", "tinyint", "smallint", "integer", "bigint", "float", "double", "date",
        "timestamp", "timestamp with time zone", "varchar", "blob", "decimal",
    }
)  # fmt: skip
_WIDENED = {
    "utinyint": "SMALLINT",
    "usmallint": "INTEGER",
    "uinteger": "BIGINT",
    "ubigint": "DECIMAL(20,0)",
    "hugeint": "DECIMAL(38,0)",
    "uuid": "VARCHAR",
    "enum": "VARCHAR",
    "timestamp_s": "TIMESTAMP",
    "timestamp_ms": "TIMESTAMP",
    "timestamp_ns": "TIMESTAMP",
}
_NANOSECONDS = re.compile(r"\bTIMESTAMP_NS\b")
# Delta forbids all but the dot, which delta_scan reads in a predicate as a struct's field.
_FORBIDDEN = frozenset(" ,;{}()\n\t=.")


@dataclass(frozen=True)
class Column:
    """A column of a query or a table.

    Args:
        name: The name in its original case.
        kind: DuckDB's type as stored in the lake.
        source: DuckDB's type in the query.
    """

    name: str
    kind: str
    source: str

    def stored(self) -> str:
        """Return the SQL expression that casts this column to its stored type."""
        name = identifier(self.name)
        if self.kind == self.source:
            return name
        cast = f"cast({name} as {self.kind})"
        if _NANOSECONDS.search(self.source):
            kept = f"cast({cast} as {self.source}) is not distinct from {name}"
            cast = f"case when {kept} then {cast} else {refuse(NANOSECONDS, self.name)} end"
        return f"{cast} as {name}"


def describe(connection: DuckDBPyConnection, query: str) -> list[Column]:
    """Return the columns of a query, each with its stored type.

    Raises:
        ContractError: A type has no counterpart in Delta, a name is not allowed there, or two
            names differ only in case.
    """
    columns = _columns(connection.sql(query))
    counts = Counter(folded(column.name) for column in columns)
    twins = [column.name for column in columns if counts[folded(column.name)] > 1]
    if twins:
        raise ContractError(
            expected="columns whose names differ in more than their case",
            came=", ".join(twins),
            where="the model's columns",
            remedy="rename one of them",
        )
    return columns


def columns_of(connection: DuckDBPyConnection, schema: Schema) -> list[Column]:
    """Return a table's columns as DuckDB reads them, without reading the table's log again."""
    no_rows = pa.schema(schema.to_arrow()).empty_table()  # noqa: F841 - DuckDB finds it by its name
    return _columns(connection.sql("from no_rows"))


def _columns(relation: DuckDBPyRelation) -> list[Column]:
    return [
        Column(name, _stored_type(name, kind), str(kind))
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]


def select(columns: Iterable[Column], query: str) -> str:
    """Return the query with its columns cast to their stored types."""
    return f"select {', '.join(column.stored() for column in columns)} from ({query})"


def respell(columns: Sequence[Column], names: Iterable[str], query: str) -> str:
    """Return the query with columns renamed to the spelling in `names`, if they are in it."""
    known = list(names)
    listed = ", ".join(
        f"{identifier(column.name)} as {identifier(spelling(column.name, known) or column.name)}"
        for column in columns
    )
    return f"select {listed} from ({query})"


def project(
    columns: Sequence[Column],
    available: Sequence[Column],
    query: str,
    helpers: frozenset[str] = frozenset(),
) -> str:
    """Return the query with exactly these columns plus helpers; missing columns are null."""
    there = {folded(column.name): column for column in available}
    listed = []
    for column in columns:
        name, found = identifier(column.name), there.get(folded(column.name))
        if found is None:
            listed.append(f"cast(null as {column.kind}) as {name}")
        elif found.kind != column.kind:
            listed.append(f"cast({identifier(found.name)} as {column.kind}) as {name}")
        else:
            listed.append(f"{identifier(found.name)} as {name}")
    return f"select {', '.join([*listed, *sorted(helpers)])} from ({query})"


def _stored_type(name: str, kind: DuckDBPyType) -> str:
    if _FORBIDDEN & set(name):
        raise ContractError(
            expected="a column name without spaces, commas, dots, brackets, semicolons or =",
            came=f"column {name!r}",
            where="the model's columns",
            remedy="rename the column: readers of Delta without column mapping do not allow these",
        )
    found = _convert(kind)
    if found is None:
        raise ContractError(
            expected="a type that Delta can store",
            came=f"column {name} of type {kind}",
            where="the model's columns",
            remedy="cast it in the model, e.g. to varchar, bigint or timestamp",
        )
    return found


def _convert(kind: DuckDBPyType) -> str | None:
    if kind.id in _KEPT:
        return "VARCHAR" if kind.id == "varchar" else str(kind)
    if kind.id in _WIDENED:
        return _WIDENED[kind.id]
    return _convert_nested(kind) if kind.id in ("list", "array", "struct", "map") else None


def _convert_nested(kind: DuckDBPyType) -> str | None:
    # An array's children include its size, which is not a type.
    parts = {
        key: _convert(child) for key, child in kind.children if isinstance(child, DuckDBPyType)
    }
    if not parts or None in parts.values():
        return None
    if kind.id in ("list", "array"):
        return f"{parts['child']}[]"
    if kind.id == "map":
        return f"MAP({parts['key']}, {parts['value']})"
    return "STRUCT(" + ", ".join(f"{identifier(key)} {part}" for key, part in parts.items()) + ")"


def delta_schema(
    columns: pa.Schema, required: Iterable[str] = (), comments: Mapping[str, str] | None = None
) -> Schema:
    """Return the Delta schema of these columns.

    Args:
        columns: The columns as DuckDB exports them to Arrow.
        required: Columns that may not be null.
        comments: Comment by column.
    """
    document = json.loads(Schema.from_arrow(columns).to_json())
    names = {name.lower() for name in required}
    for field in document["fields"]:
        field["nullable"] = field["name"].lower() not in names
    return with_comments(Schema.from_json(json.dumps(document)), comments or {})


def with_comments(schema: Schema, comments: Mapping[str, str]) -> Schema:
    """Return the schema with these comments by column; columns without one keep theirs."""
    document = json.loads(schema.to_json())
    texts = {name.lower(): text for name, text in comments.items() if text}
    for field in document["fields"]:
        if text := texts.get(field["name"].lower()):
            field["metadata"]["comment"] = text
    return Schema.from_json(json.dumps(document))


def comments_of(schema: Schema) -> dict[str, str]:
    """Return the comment of each column that has one."""
    found = {field.name: str(field.metadata.get("comment", "")) for field in schema.fields}
    return {name: text for name, text in found.items() if text}


def arrow_schema(connection: DuckDBPyConnection, query: str) -> pa.Schema:
    """Return the query's Arrow schema without fetching a row."""
    schema: pa.Schema = connection.sql(f"select * from ({query}) limit 0").to_arrow_table().schema
    return schema


def newer_schema(wanted: Schema, table: Schema) -> Schema | None:
    """Return what a table's schema should be, None if it is that already, comments included."""
    return None if wanted.to_json() == table.to_json() else wanted


def same_columns(one: Schema, two: Schema) -> bool:
    """Do two schemas agree in names, order and types? Comments and nullability are ignored."""
    return [(field.name, field.type) for field in one.fields] == [
        (field.name, field.type) for field in two.fields
    ]


@dataclass(frozen=True)
class Fit:
    """How a model's columns fit those of its table.

    Args:
        columns: The table's columns after the commit.
        is_changed: Whether the table's schema changes.
        is_rewritten: Whether the table's existing rows must be rewritten.
        narrowed: Incoming columns whose type differs from the table's, which stays.
        retyped: The table's columns whose type changes.
    """

    columns: list[Column]
    is_changed: bool = False
    is_rewritten: bool = False
    narrowed: Sequence[Column] = ()
    retyped: Sequence[Column] = ()


def fit(incoming: Sequence[Column], table: Sequence[Column], mode: str, where: str) -> Fit:
    """Decide the table's columns after an incremental build, by dbt's `on_schema_change`.

    Names are compared case-insensitively; existing columns keep the table's spelling.

    Raises:
        ContractError: The mode is `fail` and the columns differ, or it is `ignore` and the model
            lacks a column of its table.
    """
    ours = {folded(column.name): column for column in incoming}
    theirs = {folded(column.name) for column in table}
    added = [column for column in incoming if folded(column.name) not in theirs]
    missing = [column.name for column in table if folded(column.name) not in ours]
    both = [(column, ours[folded(column.name)]) for column in table if folded(column.name) in ours]
    changed = [
        replace(our, kind=column.kind, source=our.kind)
        for column, our in both
        if our.kind != column.kind
    ]
    if mode == "fail" and (added or missing or changed):
        raise out_of_sync(where, [column.name for column in added], missing, changed)
    if mode == "ignore" and missing:
        raise out_of_sync(where, [], missing, changed)
    if mode == "sync_all_columns":
        kept = [replace(our, name=column.name) for column, our in both]
        retyped = [
            replace(column, source=column.kind, kind=our.kind)
            for column, our in both
            if our.kind != column.kind
        ]
        is_changed = bool(added or missing or changed)
        return Fit(kept + added, is_changed, bool(missing or changed), (), retyped)
    extra = added if mode == "append_new_columns" else []
    return Fit([*table, *extra], bool(extra), narrowed=changed)


def out_of_sync(
    where: str, added: Sequence[str], missing: Sequence[str], changed: Sequence[Column]
) -> ContractError:
    """Return the error that lists how a model's columns differ from its table's."""
    retyped = [f"{column.name} ({column.kind} -> {column.source})" for column in changed]
    return ContractError(
        expected="the columns of the table; the source and target schemas are out of sync",
        came=f"new: {', '.join(added) or 'none'}; missing: {', '.join(missing) or 'none'}; "
        f"other type: {', '.join(retyped) or 'none'}",
        where=where,
        remedy="set on_schema_change to append_new_columns or sync_all_columns, or rebuild it "
        "whole: dbt build --full-refresh --select <model>",
    )
