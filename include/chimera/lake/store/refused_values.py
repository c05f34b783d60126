"""Refuse values in our own SQL: DuckDB's `error()` carries kind and column, never the value."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from include.chimera.errors import ContractError
from include.chimera.lake.store.cast_errors import unwrapped
from include.chimera.lake.store.duckdb_sessions import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONGEST = 200  # bytes of a value in a folder's name; file systems allow 255 with the column's name
TOO_LONG, NANOSECONDS = "partition value is too long", "nanoseconds"
# Kind to what was expected, what came, and the remedy.
_TOLD = {
    TOO_LONG: (f"partition values of at most {LONGEST} bytes", "a longer one",
               "partition by a shorter column"),
    NANOSECONDS: ("timestamps of microseconds, as Delta keeps them", "one with nanoseconds",
                  "cast the column to timestamp in the model"),
}  # fmt: skip


def refuse(kind: str, column: str) -> str:
    """Return the SQL expression that fails a statement, to be translated by `refusals`."""
    return f"error({quote(_said(kind, column))})"


@contextmanager
def refusals(columns: Iterable[str]) -> Iterator[None]:
    """Translate the errors of `refuse`, matched by their whole text, which holds no value.

    Raises:
        ContractError: A value was refused.
    """
    try:
        yield
    except duckdb.InvalidInputException as error:
        text = str(unwrapped(error)).removeprefix("Invalid Input Error: ")
        known = {_said(kind, column): (kind, column) for column in columns for kind in _TOLD}
        if text not in known:
            raise
        kind, column = known[text]
        expected, came, remedy = _TOLD[kind]
        raise ContractError(expected, came, f"column {column}", remedy) from None


def _said(kind: str, column: str) -> str:
    return f"{kind}: column {column}"
