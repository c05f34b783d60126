"""Partitions: which of them a commit replaces, and the text that a Delta log keeps of their values.

Delta's protocol has a form for each type. What it can't tell from null (the empty text), what
readers of Hive-like folders take for null, and types on whose text readers disagree (binary,
nested) are refused before a commit: one wrong value makes the whole table unreadable to delta-rs.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#partition-value-serialization
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.errors import ContractError
from include.chimera.lake.store.duckdb_sessions import duckdb_type, identifier, quote
from include.chimera.lake.store.refused_values import LONGEST, TOO_LONG, refuse
from include.chimera.relation import spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NULLS = ("", "null", "__hive_default_partition__")
# polars does not undo what a folder's name encodes of a column's.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
# delta-rs can't read back what it makes of these: -1.50 as -1.-50 (measured with 1.6.3).
_FRACTION_BELOW_ZERO = re.compile(r"-.*\.\d*[1-9]\d*")


@dataclass(frozen=True)
class Append:
    """Rows come in addition; nothing is replaced."""


@dataclass(frozen=True)
class Whole:
    """Every row of the table is replaced."""


@dataclass(frozen=True)
class Partitions:
    """The rows of these partitions are replaced, the others stay.

    Args:
        column: The partition column.
        values: Its values, as the texts that the log keeps.
    """

    column: str
    values: tuple[str, ...]


Replaced = Append | Whole | Partitions


def partition_columns(schema: pa.Schema, partition_by: Iterable[str], where: str) -> list[str]:
    """Return the columns to partition by, as the schema writes them.

    Raises:
        ContractError: There is no such column, or its type has no text that every reader knows, or
            its name no folder that every reader knows, or there is no other column.
    """
    found = []
    for column in partition_by:
        name = spelling(column, schema.names)
        if name is not None and not _PLAIN.fullmatch(name):
            raise ContractError(
                expected="partition_by a column named by ASCII letters, digits, _ and - alone",
                came=name,
                where=where,
                remedy="rename the column: it names folders, which readers decode differently",
            )
        if name is None or not _has_text(schema.field(name).type):
            raise ContractError(
                expected="partition_by a column of text, numbers, dates, timestamps or booleans",
                came=f"{column}, "
                + ("no column" if name is None else f"{schema.field(name).type}"),
                where=where,
                remedy="name a column of the model, or add one of such a type to partition by",
            )
        found.append(name)
    if found and not set(schema.names) - set(found):
        raise ContractError(
            expected="a column beside those of partition_by, which stand in no file",
            came=f"{', '.join(found)} alone",
            where=where,
            remedy="add a column to the model, or build it without partition_by",
        )
    return found


def _has_text(kind: pa.DataType) -> bool:
    known = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating,
        pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp, pa.types.is_boolean,
    )  # fmt: skip
    return any(is_kind(kind) for is_kind in known)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def text_of(column: str, kind: pa.DataType) -> str:
    """Return the expression of a partition column's text; DuckDB's own is Delta's but for zones."""
    name = identifier(column)
    if pa.types.is_timestamp(kind) and kind.tz:
        return f"strftime({name} at time zone 'UTC', '%Y-%m-%d %H:%M:%S.%f')"
    if _is_text(kind):
        return (
            f"case when strlen(url_encode({name})) <= {LONGEST} or {name} is null then {name} "
            f"else {refuse(TOO_LONG, column)} end"
        )
    return f"cast({name} as varchar)"


def among(column: str, values: Sequence[str], kind: pa.DataType) -> str:
    """Return the predicate that a partition column has one of the values, given as their texts.

    As `among`, with bounds compared as the column's type: 9 comes before 10.
    """
    if not values:
        return "false"
    type_name = duckdb_type(kind)
    listed = ", ".join(f"cast({quote(value)} as {type_name})" for value in values)
    name = identifier(column)
    return f"({name} between least({listed}) and greatest({listed}) and {name} in ({listed}))"


def check_partition(partition: Mapping[str, str | None], rows: int, schema: pa.Schema) -> None:
    """Refuse a file's partition values that readers would take for others, or for none.

    Args:
        partition: Column to text, None for null.
        rows: The file's rows, for the message.
        schema: The table's columns.

    Raises:
        ContractError: There is one; the message has no value.
    """
    for name, value in partition.items():
        field = schema.field(name)
        if value is None and field.nullable:
            continue
        if value is None or not _is_clear(value, field.type):
            raise ContractError(
                expected="a value in each required partition column, which all readers understand: "
                "no empty text, no 'null', a finite number, no fraction below zero of a decimal, "
                "a date of the years 1 to 9999",
                came=f"none in {rows} rows" if not value else f"another one in {rows} rows",
                where=f"column {name}",
                remedy="mend the query that gives these rows, or the gate that let them through",
            )


def _is_clear(value: str, kind: pa.DataType) -> bool:
    if _is_text(kind):
        return value.lower() not in _NULLS
    if pa.types.is_decimal(kind):
        return not _FRACTION_BELOW_ZERO.fullmatch(value)
    try:
        if pa.types.is_date(kind):
            date.fromisoformat(value)
        elif pa.types.is_timestamp(kind):
            datetime.fromisoformat(value)
        elif pa.types.is_floating(kind):
            return isfinite(float(value)) and value != "-0.0"  # two zeros, one partition
    except ValueError:
        return False
    return True
