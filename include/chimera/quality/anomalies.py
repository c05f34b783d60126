"""Is this hour like the same hour of former days? Row counts, null ratios, freshness, durations.

What is compared comes from the staged files' own statistics: no data is read for it. Everything
here is a warning: an unusual hour is a reason to look, not to stop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from include.chimera.contracts import CONTRACTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.chimera.window import Run

MIN_DAYS, MAX_DAYS = 5, 14
PREFIX = "anomaly_"
# A normal distribution's standard deviation is 1.4826 median absolute deviations.
# Source: https://en.wikipedia.org/wiki/Median_absolute_deviation
_SCALE, _DEVIATIONS = 1.4826, 6.0


@dataclass(frozen=True)
class Tolerance:
    """How far a number may lie from the median of former days before it is unusual.

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
    """Tell whether a number is far from the same hour of former days.

    It has to be outside the tolerance and outside six standard deviations, estimated by the median
    absolute deviation; with fewer than five days nothing is unusual.
    """
    if len(former) < MIN_DAYS:
        return False
    middle, tolerance = median(former), _TOLERANCES[kind]
    spread = _SCALE * median(abs(number - middle) for number in former)
    distance = value - middle if tolerance.is_upper_only else abs(value - middle)
    allowed = max(tolerance.absolute, tolerance.relative * abs(middle), _DEVIATIONS * spread)
    return distance > allowed


def measures(run: Run, table: str, stage: Mapping[str, Any], seconds: float) -> list[Measure]:
    """Return the numbers of a table's staged files.

    Args:
        run: Freshness counts from the end of its window.
        table: `<layer>.<table>`.
        stage: The table's manifest.
        seconds: How long its gate took.
    """
    stats = [json.loads(file["stats"]) for file in stage["files"]]
    rows = sum(int(file["numRecords"]) for file in stats)
    found = [_measure("rows", rows), _measure("gate_seconds", seconds)]
    contract = CONTRACTS.get(table)
    if contract is None or not rows:
        return found
    for column in contract.schema:
        if column.nullable:
            nulls = sum(int(file["nullCount"].get(column.name, 0)) for file in stats)
            found.append(_measure("null_ratio", nulls / rows, column.name))
    newest = [file["maxValues"].get(contract.event_time) for file in stats]
    known = [datetime.fromisoformat(value) for value in newest if value]
    if known:
        age = run.window.end - max(moment.astimezone(UTC) for moment in known)
        found.append(_measure("freshness_seconds", max(age.total_seconds(), 0.0)))
    return found


def _measure(kind: str, value: float, column: str = "") -> Measure:
    name = f"{PREFIX}{kind}_{column}" if column else f"{PREFIX}{kind}"
    return Measure(name, kind, float(value))
