"""Row counts and order-independent checksums per hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.contracts import PARTITION
from include.chimera.lake.store.duckdb_sessions import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Content:
    """A row count and the sum of the rows' hashes: independent of order and of files."""

    rows: int = 0
    checksum: int = 0


def content_by_hour(
    connection: DuckDBPyConnection, query: str, columns: Sequence[str]
) -> dict[str, Content]:
    """Return the content of each `_window_hour` in a query's rows.

    Args:
        connection: DuckDB session.
        query: Rows with a column `_window_hour`.
        columns: The columns to hash.
    """
    counted = ", ".join(identifier(name) for name in columns if name != PARTITION)
    rows = connection.execute(
        f"select {PARTITION}, count(*), cast(sum(cast(hash({counted}) as hugeint)) as hugeint) "
        f"from ({query}) group by {PARTITION}"
    ).fetchall()
    return {hour: Content(count, checksum) for hour, count, checksum in rows}


def sum_of(one: Mapping[str, Content], two: Mapping[str, Content]) -> dict[str, Content]:
    """Add up the contents, hour by hour."""
    return {
        hour: Content(
            one.get(hour, Content()).rows + two.get(hour, Content()).rows,
            one.get(hour, Content()).checksum + two.get(hour, Content()).checksum,
        )
        for hour in (*one, *two)
    }


def hours_in(connection: DuckDBPyConnection, query: str) -> list[str]:
    """Return the distinct `_window_hour` of the query's rows, sorted."""
    rows = connection.execute(f"select distinct {PARTITION} from ({query})").fetchall()
    return sorted(hour for (hour,) in rows)
