"""Translate DuckDB's conversion errors without the values that they quote.

DuckDB's message names the types, often the column, and the line of the cast; any other text in it
may be a row's. Only known types and column names are extracted from it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb

from include.chimera.errors import ConversionError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ABOUT_ROWS = (
    *(duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException),
    duckdb.NotImplementedException,  # e.g. for a time zone that a row names
)
# DuckDB's messages about an incomplete Parquet file, which it raises as invalid input.
_BROKEN_FILE = (
    r"\A(Invalid Input Error: )?(No magic bytes found at end of file|File '.*' too small to be a|"
    r"Failed to read file |Invalid string encoding found in Parquet|TProtocolException|"
    r"Out of buffer)"
)
# The texts of these mention only names and SQL.
_MISTAKES = (
    *(duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException),
    *(duckdb.SyntaxException, duckdb.TransactionException, duckdb.DependencyException),
    *(duckdb.PermissionException, duckdb.ConnectionException, duckdb.InterruptException),
)
# An error while rows are fetched comes as another class, with its own class after these words.
_FETCHED = (
    "Invalid Input Error: Attempting to execute an unsuccessful or closed pending query result\n"
    "Error: "
)
_KINDS = {
    "Conversion Error: ": duckdb.ConversionException,
    "Out of Range Error: ": duckdb.OutOfRangeException,
    "Constraint Error: ": duckdb.ConstraintException,
    "IO Error: ": duckdb.IOException,
    "HTTP Error: ": duckdb.IOException,
    "Out of Memory Error: ": duckdb.OutOfMemoryException,
    "Invalid Input Error: ": duckdb.InvalidInputException,
}
# The physical types that DuckDB's messages may name.
_TYPES = {
    "INT8": "TINYINT", "INT16": "SMALLINT", "INT32": "INTEGER", "INT64": "BIGINT",
    "INT128": "HUGEINT or UUID", "UINT8": "UTINYINT or ENUM", "UINT16": "USMALLINT",
    "UINT32": "UINTEGER", "UINT64": "UBIGINT", "UINT128": "UHUGEINT", "BOOL": "BOOLEAN",
    **{name: name for name in (
        "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
        "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN", "VARCHAR", "BLOB", "BIT",
        "DATE", "TIME", "TIMESTAMP", "INTERVAL", "UUID", "JSON", "ENUM", "STRUCT", "MAP", "UNION",
    )},
}  # fmt: skip
_NAMED = re.compile(r"\b(?:to|type|of|to the destination type) '?([A-Z]+\d*)(\(\d+,\d+\))?(\[\])?")
_SPOKEN = re.compile(r"(?:invalid |^Conversion Error: )(date|timestamp|time|interval)\b")
_COLUMN = re.compile(r" when casting from source column ([^\"'\n]+)\Z")
_CSV_COLUMN = re.compile(r"Column ([^\"'\n]+) is being converted as type ([A-Z]+)")
_LINE = re.compile(r"\n+LINE (\d+): ")
_PLACE = re.compile(r", line \d+ of its statement\Z")
_CONSTRAINT = re.compile(
    r"\AConstraint Error: (PRIMARY KEY or UNIQUE|UNIQUE|CHECK|NOT NULL|FOREIGN)"
)
_NULL = re.compile(r"NOT NULL constraint failed: [^\"'\n]+\.([^\"'.\n]+)\Z")


def unwrapped(error: BaseException) -> BaseException:
    """Return the real error: DuckDB reports any failure while fetching rows as invalid input."""
    text = str(error)
    if not isinstance(error, duckdb.InvalidInputException) or not text.startswith(_FETCHED):
        return error
    inner = text.removeprefix(_FETCHED)
    found = (kind for words, kind in _KINDS.items() if inner.startswith(words))
    return next(found, duckdb.InvalidInputException)(inner)


def is_mistake(error: BaseException) -> bool:
    """Is the SQL at fault? Then DuckDB's text contains nothing of a row."""
    return isinstance(error, _MISTAKES)


def is_about_rows(error: BaseException) -> bool:
    """Did DuckDB fail because of a value in a row?"""
    return isinstance(error, _ABOUT_ROWS) and not is_broken_file(str(error))


def is_broken_file(text: str) -> bool:
    """Is a DuckDB message about an incomplete or damaged Parquet file?"""
    return re.match(_BROKEN_FILE, text) is not None


def names_column(error: BaseException) -> bool:
    """Does DuckDB name the column of the value?"""
    return " in column " in _told(unwrapped(error))


def rows_error(error: BaseException, where: str, column: str | None = None) -> ConversionError:
    """Return our error for a value that does not fit: types, column and line, never the value.

    Args:
        error: DuckDB's error.
        where: The table and the operation on it.
        column: The failing column, if DuckDB does not name it.
    """
    told = _told(unwrapped(error))
    if column:
        told = f"{_PLACE.sub('', told)}, for column {column}"
    return ConversionError(came=told, where=where)


def failing_column(connection: DuckDBPyConnection, query: str) -> str | None:
    """Return the first column of a query that fails by itself, None if each column works alone."""
    for name in connection.sql(query).columns:
        column = '"' + name.replace('"', '""') + '"'
        try:
            connection.execute(f"select count({column}) from ({query})").fetchall()
        except duckdb.Error as error:
            if is_about_rows(error):
                return name
            raise
    return None


def _told(error: BaseException) -> str:
    text, kind = str(error), type(error).__name__
    lines = list(_LINE.finditer(text))
    body = text[: lines[-1].start()] if lines else text
    place = f", line {lines[-1][1]} of its statement" if lines else ""
    if isinstance(error, duckdb.ConstraintException):
        named, null = _CONSTRAINT.search(body), _NULL.search(body)
        column = f" of column {null[1]}" if null else ""
        return f"a row that breaks a {named[1]} constraint{column}" if named else kind
    if not isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
        return f"{kind}: a function refused a value{place}"
    csv = list(_CSV_COLUMN.finditer(text))
    found = (csv[-1] if csv else None) or _COLUMN.search(body)
    target = _target(csv[-1][0] if csv else body[: found.start()] if found else body)
    place = f" in column {found[1]}" if found else place
    if isinstance(error, duckdb.OutOfRangeException):
        return f"a value beyond {target or 'its type'}{place}"
    return f"a value{_source(body)} that is no {target or 'value of the wanted type'}{place}"


def _source(body: str) -> str:
    typed = re.match(r"Conversion Error: Type ([A-Z]+\d*) with value", body)
    if typed:
        return f" of {_TYPES[typed[1]]}" if typed[1] in _TYPES else ""
    is_text = re.match(r"Conversion Error: (Could not convert string|.* field |Malformed)", body)
    return " of VARCHAR" if is_text or "CSV Error" in body else ""


def _target(body: str) -> str | None:
    """Return the target type of a cast: the last type that the message names."""
    for found in reversed(list(_NAMED.finditer(body))):
        if known := _TYPES.get(found[1]):
            return known + (found[2] or "") + (found[3] or "")
    spoken = _SPOKEN.search(body)
    if spoken:
        return spoken[1].upper()
    return "JSON" if "Malformed JSON at byte" in body else None
