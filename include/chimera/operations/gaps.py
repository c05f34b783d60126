"""Find the hours that tables lack, and what fills them: the catch-up, or a person's backfill."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.contracts import QUALITY_RESULTS, WINDOW_LEDGER
from include.chimera.errors import ConfigurationError
from include.chimera.lake.delta.scans import ask
from include.chimera.lake.store import storage
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.profiles.chosen import filled_tables
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Window, floor_hour

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Gap:
    """Consecutive hours that a table lacks."""

    table: str
    window: Window


def first_hour() -> datetime | None:
    """Return the first hour due, if no setting says so; None: no run has worked on any.

    It is what `keep_first_hour` has kept, else the hour of the first scheduled run, else that of
    any run. A manual run for an earlier hour does not make the hours in between due.

    Raises:
        ConfigurationError: What was kept is no moment.
    """
    place = _first_hour_place()
    with storage_errors(f"reading {place}"):
        kept = storage.read_text(place)
    try:
        return datetime.fromisoformat(kept.strip()) if kept is not None else _first_known()
    except ValueError:
        raise ConfigurationError(
            expected="the first hour due, in ISO 8601",
            came="something else",
            where=place,
            remedy="set CHIMERA_START_DATE, or remove the file: it is made again",
        ) from None


def keep_first_hour() -> datetime | None:
    """Return the first hour due, as `first_hour` does, and keep it for good.

    What it was found in may lose rows, and grows with each hour.
    """
    first, place = first_hour(), _first_hour_place()
    if first is not None:
        with storage_errors(f"writing {place}"):
            storage.create_text(place, first.isoformat())
    return first


def _first_hour_place() -> str:
    return f"{get_settings().lake}/_controls/first_hour"


def _first_known() -> datetime | None:
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


def missed_hours(now: datetime) -> list[Window]:
    """Return the hours due that the ledger lacks, oldest first.

    The newest full hour is left out: it is the schedule's own. A table that is new in the pipeline
    lacks no hour before its first scheduled one, so it does not make all of history run again.

    Raises:
        ConfigurationError: What was kept as the first hour is no moment.
    """
    settings = get_settings()
    first, end = settings.start_date or keep_first_hour(), floor_hour(now) - HOUR
    if settings.end_date:
        end = min(end, settings.end_date + HOUR)
    if first is None or first >= end:
        return []
    known, begun = _known_hours(), _first_scheduled()
    return [
        hour
        for hour in Window(first, end).hours()
        if not any(hour.start in hours for hours in known.values())
        or any(hour.start >= began and hour.start not in known[name] for name, began in begun)
    ]


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
    published = _known_hours()
    known = {name: published.get(name, set()) for name in filled_tables()}
    known |= _hours_of_models(expected)
    return [
        Gap(table, window)
        for table, hours in known.items()
        for window in _merged(hour for hour in expected.hours() if hour.start not in hours)
    ]


def _known_hours() -> dict[str, set[datetime]]:
    """Return the starts of the published hours, by bronze table."""
    rows = ask(
        WINDOW_LEDGER.name, "select table_name, window_start, window_end from ({}) group by all"
    )
    known: dict[str, set[datetime]] = {}
    for name, start, end in rows:
        known.setdefault(name, set()).update(hour.start for hour in Window(start, end).hours())
    return known


def _first_scheduled() -> list[tuple[str, datetime]]:
    """Return each bronze table that is filled with the first hour a scheduled run published."""
    rows = ask(
        WINDOW_LEDGER.name,
        "select table_name, min(window_start) from ({}) "
        "where starts_with(run_id, 'scheduled__') group by table_name",
    )
    return [(name, start) for name, start in rows if name in filled_tables()]


def _hours_of_models(expected: Window) -> dict[str, set[datetime]]:
    """Return the hours up to the last that each model's gate passed, else up to its first run."""
    rows = ask(
        QUALITY_RESULTS.name,
        "select table_name, coalesce(max(window_end) filter (where verdict <> 'failed'), "
        "min(window_start)) from ({}) "
        "where not starts_with(table_name, 'bronze.') group by table_name",
    )
    return {
        name: {hour.start for hour in expected.hours() if hour.end <= end} for name, end in rows
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
