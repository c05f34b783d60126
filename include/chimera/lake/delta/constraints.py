"""Check written rows against constraints before a commit adds them to a table."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.chimera.errors import ContractError
from include.chimera.lake.store.duckdb_sessions import identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.delta.columns import Column
    from include.chimera.lake.delta.parquet_files import DataFile

_CHECK = "delta.constraints."


@dataclass(frozen=True)
class Constraints:
    """The constraints on a table's rows.

    Args:
        required: Columns that may not be null.
        conditions: SQL condition by name; as in SQL, a null result passes.
    """

    required: frozenset[str] = frozenset()
    conditions: Mapping[str, str] = field(default_factory=dict)


def check_rows(
    connection: DuckDBPyConnection,
    where: str,
    files: Sequence[DataFile],
    rows: str,
    constraints: Constraints,
) -> None:
    """Refuse rows that break a constraint.

    Args:
        connection: DuckDB session.
        where: Place for the message.
        files: The written files.
        rows: Query of the rows in these files.
        constraints: The constraints to check.

    Raises:
        ContractError: Rows break a constraint; counts are in the message, values are not.
    """
    conditions = constraints.conditions
    nulls = null_counts(connection, files, rows, sorted(constraints.required))
    broken = {f"not null on {name}": count for name, count in nulls.items()}
    if conditions and files:
        counts = ", ".join(f"count(*) filter (where not ({text}))" for text in conditions.values())
        found = connection.execute(f"select {counts} from ({rows})").fetchone() or ()
        broken |= {f"check {name}": count for name, count in zip(conditions, found, strict=True)}
    failures = [f"{count} rows break {name}" for name, count in broken.items() if count]
    if failures:
        raise ContractError(
            expected="rows that meet the table's constraints",
            came="constraint failed: " + "; ".join(failures),
            where=where,
            remedy="mend the model's query, or change the constraint in its yml",
        )


def null_counts(
    connection: DuckDBPyConnection, files: Sequence[DataFile], rows: str, columns: Iterable[str]
) -> dict[str, int]:
    """Count each column's nulls in written files, from their statistics or else by a query.

    DuckDB gives no null count for a list, struct or map, only for its elements: a missing
    statistic means unknown, not zero.

    Args:
        connection: DuckDB session.
        files: The files.
        rows: Query of the rows in these files.
        columns: Names of columns.

    Raises:
        ContractError: The rows lack one of the columns.
    """
    stats = [json.loads(file.stats)["nullCount"] for file in files]
    found, unknown = {}, []
    for column in columns:
        counts = [
            (file.rows if file.partition[column] is None else 0)
            if column in file.partition
            else known.get(column)
            for file, known in zip(files, stats, strict=True)
        ]
        if None in counts:
            unknown.append(column)
        else:
            found[column] = sum(counts)
    if unknown:
        found |= _counted_nulls(connection, rows, unknown)
    return found


def _counted_nulls(
    connection: DuckDBPyConnection, rows: str, columns: Sequence[str]
) -> dict[str, int]:
    there = {name.lower() for name in connection.sql(rows).columns}
    missing = [name for name in columns if name.lower() not in there]
    if missing:
        raise ContractError(
            expected=f"the required columns {', '.join(missing)}",
            came="rows without them",
            where="the constraint not_null",
            remedy="name a column of the model; for a field within one write a check constraint",
        )
    counted = ", ".join(f"count(*) - count({identifier(name)})" for name in columns)
    numbers = connection.execute(f"select {counted} from ({rows})").fetchone() or ()
    return dict(zip(columns, numbers, strict=True))


def check_conversion(
    connection: DuckDBPyConnection, query: str, columns: Sequence[Column], where: str
) -> None:
    """Refuse a type conversion that would change a value.

    Args:
        connection: DuckDB session.
        query: The rows.
        columns: Columns with their current type (`source`) and new type (`kind`).
        where: Place for the message.

    Raises:
        ContractError: A value would change, or text would become another type.
    """
    if not columns:
        return
    lost = []
    for column in columns:
        name = identifier(column.name)
        back = f"try_cast(try_cast({name} as {column.kind}) as {column.source})"
        condition = "true" if _is_reading(column) else f"{back} is distinct from {name}"
        lost.append(f"count(*) filter (where {name} is not null and ({condition}))")
    found = connection.execute(f"select {', '.join(lost)} from ({query})").fetchone() or ()
    failures = [
        f"{count} values of {column.name} ({column.source} -> {column.kind})"
        for column, count in zip(columns, found, strict=True)
        if count
    ]
    if failures:
        raise ContractError(
            expected="values that the column's type keeps as they are",
            came="; ".join(failures),
            where=where,
            remedy="cast the column in the model, or give the table the model's type: "
            "dbt build --full-refresh --select <model> (on_schema_change='sync_all_columns' does "
            "it where each value stays what it is)",
        )


def _is_reading(column: Column) -> bool:
    """Does the conversion parse text as another type? `'7'` is not 7."""
    return column.source == "VARCHAR" and column.kind != "VARCHAR"


def constraints_of(properties: Mapping[str, str]) -> dict[str, str]:
    """Return a table's check constraints by name, from its Delta properties."""
    return {
        name.removeprefix(_CHECK): text
        for name, text in properties.items()
        if name.startswith(_CHECK)
    }
