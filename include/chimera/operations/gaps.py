"""Find the hours that tables lack, and the commands that backfill them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from include.chimera.contracts import BRONZE, QUALITY_RESULTS, WINDOW_LEDGER
from include.chimera.lake.delta.scans import ask
from include.chimera.window import HOUR, Window

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclass(frozen=True)
class Gap:
    """Consecutive hours that a table lacks."""

    table: str
    window: Window


def first_hour() -> datetime | None:
    """Return the first hour due: that of the first scheduled run, else of any run; None: no run.

    A manual run for an earlier hour does not make the hours in between due.
    """
    asked = (
        "select min(window_start) filter (where starts_with(run_id, 'scheduled__')), "
        "min(window_start) from ({})"
    )
    rows = [row for name in (WINDOW_LEDGER.name, QUALITY_RESULTS.name) for row in ask(name, asked)]
    for hours in zip(*rows, strict=True):
        known: list[datetime] = [hour for hour in hours if hour is not None]
        if known:
            return min(known).astimezone(UTC)
    return None


def backfills(gaps: Iterable[Gap]) -> list[str]:
    """Return commands that fill the gaps, each hour once; both of Airflow's dates are inclusive."""
    spans = _merged(sorted(gap.window for gap in gaps))
    return [
        "airflow backfill create --dag-id chimera_etl_hourly "
        f"--from-date {span.start.isoformat()} --to-date {(span.end - HOUR).isoformat()} "
        "--reprocess-behavior completed --max-active-runs 2"
        for span in spans
    ]


def find_gaps(expected: Window) -> list[Gap]:
    """Compare the expected hours with those published, table by table.

    For bronze, the ledger lists the published hours. A model lacks only the hours after the last
    one that its gate passed, because each build also covers what its parents received since the
    previous build (docs/adr/0002).

    Args:
        expected: The hours that the schedule should have covered.
    """
    known: dict[str, list[Window]] = {contract.name: [] for contract in BRONZE}
    known |= _known_hours() | _hours_of_models(expected)
    return [
        Gap(table, window)
        for table in known
        for window in _merged(
            hour
            for hour in expected.hours()
            if not any(
                window.start <= hour.start and hour.end <= window.end for window in known[table]
            )
        )
    ]


def _known_hours() -> dict[str, list[Window]]:
    rows = ask(
        WINDOW_LEDGER.name, "select table_name, window_start, window_end from ({}) group by all"
    )
    known: dict[str, list[Window]] = {}
    for name, start, end in rows:
        known.setdefault(name, []).append(Window(start, end))
    return known


def _hours_of_models(expected: Window) -> dict[str, list[Window]]:
    """Return the hours up to the last that each model's gate passed, else up to its first run."""
    rows = ask(
        QUALITY_RESULTS.name,
        "select table_name, coalesce(max(window_end) filter (where verdict <> 'failed'), "
        "min(window_start)) from ({}) "
        "where not starts_with(table_name, 'bronze.') group by table_name",
    )
    return {
        name: [Window(expected.start, end)] if expected.start < end else [] for name, end in rows
    }


def _merged(windows: Iterable[Window]) -> list[Window]:
    """Merge sorted windows that touch or overlap."""
    merged: list[Window] = []
    for window in windows:
        if merged and window.start <= merged[-1].end:
            merged[-1] = Window(merged[-1].start, max(merged[-1].end, window.end))
        else:
            merged.append(window)
    return merged
