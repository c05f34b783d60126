"""Compare an hour with the same hour of past days: rows, null ratios, freshness, gate duration.

The numbers come from the staged files' statistics, and from a query only where those are missing.
Everything here is a warning: an unusual hour is a reason to look, not to stop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS
from include.chimera.lake.delta.constraints import null_counts
from include.chimera.lake.store.duckdb_sessions import identifier, quote
from include.chimera.quality.outliers import DEVIATIONS, SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.delta.parquet_files import DataFile
    from include.chimera.window import Run

MIN_DAYS, MAX_DAYS = 5, 14
PREFIX = "anomaly_"


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the median of past days before it is unusual.

    Args:
        relative: Share of the median.
        absolute: In the number's own unit.
        is_upper_only: Whether only larger numbers are unusual.
    """

    relative: float
    absolute: float
    is_upper_only: bool = False


_TOLERANCES = {
    "rows": Tolerance(relative=0.5, absolute=50),
    "null_ratio": Tolerance(relative=0.0, absolute=0.2),
    "freshness_seconds": Tolerance(relative=1.0, absolute=900, is_upper_only=True),
    "gate_seconds": Tolerance(relative=2.0, absolute=30, is_upper_only=True),
}


@dataclass(frozen=True)
class Measure:
    """One number of one table in one run.

    Args:
        rule_id: `anomaly_<kind>` or `anomaly_<kind>_<column>`.
        kind: One of rows, null_ratio, freshness_seconds, gate_seconds.
        value: Rows, a share from 0 to 1, or seconds.
    """

    rule_id: str
    kind: str
    value: float


def is_unusual(value: float, former: Sequence[float], kind: str) -> bool:
    """Is a number far from those of the same hour on past days?

    It must lie outside both the tolerance and six standard deviations, estimated from the median
    absolute deviation. With fewer than five past days nothing is unusual.
    """
    if len(former) < MIN_DAYS:
        return False
    middle, tolerance = median(former), _TOLERANCES[kind]
    spread = SCALE * median(abs(number - middle) for number in former)
    distance = value - middle if tolerance.is_upper_only else abs(value - middle)
    allowed = max(tolerance.absolute, tolerance.relative * abs(middle), DEVIATIONS * spread)
    return distance > allowed


def measures(  # noqa: PLR0913, PLR0917 - all the facts of a gate
    run: Run,
    table: str,
    files: Sequence[DataFile],
    seconds: float,
    connection: DuckDBPyConnection,
    rows: str,
) -> list[Measure]:
    """Return the measures of a table's staged files.

    Args:
        run: The run; freshness is measured back from the end of its window.
        table: `<layer>.<table>`.
        files: The staged files.
        seconds: How long the gate took.
        connection: DuckDB session, used where the files' statistics are missing.
        rows: Query of the rows in the files.
    """
    count = sum(file.rows for file in files)
    found = [_measure("rows", count), _measure("gate_seconds", seconds)]
    contract = CONTRACTS.get(table)
    if contract is None or not count:
        return found
    names = [column.name for column in contract.schema if column.nullable]
    nulls = null_counts(connection, files, rows, names)
    found += [_measure("null_ratio", nulls[name] / count, name) for name in names]
    if contract.event_time and (
        newest := _newest(run, contract.event_time, files, connection, rows)
    ):
        age = (run.window.end - newest).total_seconds()
        found.append(_measure("freshness_seconds", max(age, 0.0)))
    return found


def _newest(
    run: Run, column: str, files: Sequence[DataFile], connection: DuckDBPyConnection, rows: str
) -> datetime | None:
    """Return the newest event time up to and including the window's end, or None.

    Query the rows if a file has no upper bound (an infinite time has none) or one past the window.
    """
    bounds = [json.loads(file.stats)["maxValues"].get(column) for file in files]
    if all(bounds):
        newest = max(datetime.fromisoformat(text).astimezone(UTC) for text in bounds)
        if newest <= run.window.end:
            return newest
    end, event = run.window.end.isoformat(), identifier(column)
    (newest_known,) = connection.execute(
        f"select max({event}) from ({rows}) where {event} <= timestamptz {quote(end)} "
        f"and {event} >= timestamptz '1970-01-01 00:00:00+00'"
    ).fetchone() or (None,)
    return newest_known.astimezone(UTC) if newest_known else None


def _measure(kind: str, value: float, column: str = "") -> Measure:
    name = f"{PREFIX}{kind}_{column}" if column else f"{PREFIX}{kind}"
    return Measure(name, kind, float(value))
