"""Partitions: which ones a commit replaces, and the text of their values in the Delta log.

Delta's protocol defines a text form for each type. Refused before a commit are the empty text
(which it can't tell from null), texts that readers of Hive-style folders take for null, and types
on whose text readers disagree (binary, nested): one wrong value makes the whole table unreadable
to delta-rs.

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
# polars does not decode an encoded column name in a folder's name.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
# delta-rs can't read back its own text of these: it writes -1.50 as -1.-50 (measured with 1.6.3).
_FRACTION_BELOW_ZERO = re.compile(r"-.*\.\d*[1-9]\d*")


@dataclass(frozen=True)
class Append:
    """Add rows and replace nothing."""


@dataclass(frozen=True)
class Whole:
    """Replace every row of the table."""


@dataclass(frozen=True)
class Partitions:
    """Replace the rows of these partitions and keep the others.

    Args:
        column: The partition column.
        values: Its values, as the texts in the log.
    """

    column: str
    values: tuple[str, ...]


Replaced = Append | Whole | Partitions


def partition_columns(schema: pa.Schema, partition_by: Iterable[str], where: str) -> list[str]:
    """Return the columns to partition by, in the schema's spelling.

    Raises:
        ContractError: A column does not exist, or readers disagree on the text of its type or on
            the folder for its name, or no other column would be left.
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
    """Return an SQL expression for a partition column's text.

    DuckDB's own text is Delta's too, except for timestamps with a zone, which are written in UTC.
    A text whose encoded form is too long for a folder's name fails the query.
    """
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
    """Return the predicate that a partition column has one of the values, given as texts.

    Like `duckdb_sessions.among`, but compared as the column's type: 9 comes before 10.
    """
    if not values:
        return "false"
    type_name = duckdb_type(kind)
    listed = ", ".join(f"cast({quote(value)} as {type_name})" for value in values)
    name = identifier(column)
    return f"({name} between least({listed}) and greatest({listed}) and {name} in ({listed}))"


def check_partition(partition: Mapping[str, str | None], rows: int, schema: pa.Schema) -> None:
    """Refuse a file's partition values that readers would misread, or take for null.

    Args:
        partition: Text by column, None for null.
        rows: The file's row count, for the message.
        schema: The table's columns.

    Raises:
        ContractError: There is such a value; the message does not contain it.
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
