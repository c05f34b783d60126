"""Seed the sample application with each hour's rows, API log and provider metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.demo.app_database import Database, SeededHour, connect
from include.chimera.demo.feed import rows_within
from include.chimera.demo.litellm_database import PROFILE, fill_litellm
from include.chimera.demo.openmetrics import write_families
from include.chimera.demo.recorded.replayed import ReplayedFeed
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import ConfigurationError
from include.chimera.lake.store import storage
from include.chimera.profiles.chosen import intakes
from include.chimera.window import HOUR, Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from include.chimera.demo.feed import Feed, HourData
    from include.chimera.settings import Settings

SETTLING_HOURS = 2
"""A generation's last change comes at most 90 minutes after its creation."""


@dataclass(frozen=True)
class SeedReport:
    """Counts of the requested hours, whether made now or earlier.

    Args:
        rows: Rows per table of the schema `app`; generations and evaluations of these hours only.
        log_lines: Lines in the hours' API log files.
        metric_samples: Samples in the hours' metrics files.
        hours_made: Labels of the hours made now.
    """

    rows: dict[str, int]
    log_lines: int
    metric_samples: int
    hours_made: list[str]


def api_log_place(settings: Settings, hour: datetime) -> str:
    """Return the path or URL of an hour's API log."""
    return f"{settings.api_logs}/dt={hour:%Y-%m-%d}/hour={hour:%H}/api.jsonl"


def metrics_folder(settings: Settings) -> Path:
    """Return the folder of the OpenMetrics files, one per hour."""
    return settings.state_dir / "sources" / "metrics"


def metrics_path(settings: Settings, hour: datetime) -> Path:
    """Return the path of an hour's metric samples."""
    return metrics_folder(settings) / f"{hour_label(hour)}.om"


def seed(
    app_db_uri: str,
    windows: Sequence[Window],
    settings: Settings,
    on_progress: Callable[[str], None] | None = None,
) -> SeedReport:
    """Make each hour's data, unless it exists already.

    Each hour is one transaction, and its files are written before the commit. After an
    interruption, the next call makes the missing data, identical to the byte. If the profile
    `litellm` is chosen, its tables get the same calls.

    Args:
        app_db_uri: libpq URI of the application's database, which must exist.
        windows: The hours; any order, overlaps allowed. With traces, the first hour ever seeded
            becomes the replay's first.
        settings: The settings, for the files' places and the traces to replay.
        on_progress: Called with a short text about each hour.

    Raises:
        ConfigurationError: An hour was made from other data before, or the traces lack a file.
        SourceUnavailableError: PostgreSQL does not answer.
    """
    hours = sorted({hour for window in windows for hour in window.hours()})
    if not hours:
        return SeedReport({}, 0, 0, [])
    made = []
    with connect(app_db_uri) as database:
        feed = _prepare(database, hours, settings)
        for hour in hours:
            is_made = _seed_hour(database, feed, hour, settings)
            if is_made:
                made.append(hour_label(hour.start))
            if on_progress:
                state = f"made of {feed.fingerprint}" if is_made else "there already"
                on_progress(f"hour {hour_label(hour.start)}: {state}")
        seeded = database.seeded_hours()
        models = database.count_models()
    if any(intake.profile == PROFILE for intake in intakes(settings.profile)):
        fill_litellm(app_db_uri)
    return _report([seeded[hour.start] for hour in hours], models, made)


def _prepare(database: Database, hours: list[Window], settings: Settings) -> Feed:
    """Create the schema and the models, and choose the feed."""
    database.create_schema()
    seeded = database.seeded_hours()
    feed = _choose_feed(settings, hours, seeded)
    for hour in hours:
        before = seeded.get(hour.start)
        if before is not None and before.fingerprint != feed.fingerprint:
            raise ConfigurationError(
                expected=f"the hour {hour_label(hour.start)} made of {feed.fingerprint}",
                came=f"one made of {before.fingerprint}",
                where="app_demo.seeded_hours",
                remedy="run `make clean` to begin anew, or restore the settings it was made with",
            )
    database.upsert("models", feed.models())
    database.commit()
    return feed


def _report(entries: list[SeededHour], models: int, made: list[str]) -> SeedReport:
    return SeedReport(
        rows={
            "generations": sum(entry.generations for entry in entries),
            "evaluations": sum(entry.evaluations for entry in entries),
            "models": models,
        },
        log_lines=sum(entry.log_lines for entry in entries),
        metric_samples=sum(entry.metric_samples for entry in entries),
        hours_made=made,
    )


def _choose_feed(
    settings: Settings, hours: list[Window], seeded: dict[datetime, SeededHour]
) -> Feed:
    """Choose the feed; a replay keeps the anchor that it began with."""
    if settings.traces is None:
        return GeneratedFeed(settings.rows_per_hour)
    replayed = [
        hour for hour, entry in seeded.items() if entry.fingerprint == ReplayedFeed.fingerprint
    ]
    anchor = min(replayed, default=hours[0].start)
    if hours[0].start < anchor:
        raise ConfigurationError(
            expected=f"hours from {hour_label(anchor)} on, where the replay of the traces began",
            came=hour_label(hours[0].start),
            where="app_demo.seeded_hours",
            remedy="run `make clean` to begin the replay at another hour",
        )
    return ReplayedFeed(settings.traces, anchor)


def _seed_hour(database: Database, feed: Feed, hour: Window, settings: Settings) -> bool:
    """Make one hour, or its files if they are gone; return whether its rows are new."""
    database.lock()
    seeded = database.seeded_hours()
    before = seeded.get(hour.start)
    log, metrics = api_log_place(settings, hour.start), metrics_path(settings, hour.start)
    if before is not None and metrics.exists() and all(storage.existing([log])):
        return False
    data = feed.hour(hour)
    storage.write_bytes(log, b"".join(line + b"\n" for line in data.log_lines))
    storage.write_bytes(f"{log.rpartition('/')[0]}/_SUCCESS", b"")  # the hour's log is complete
    storage.write_bytes(str(metrics), write_families(data.families))
    if before is None:
        _load_rows(database, feed, hour, data, set(seeded) | {hour.start})
        database.remember(_entry(hour, feed, data))
    database.commit()
    return before is None


def _load_rows(
    database: Database, feed: Feed, hour: Window, data: HourData, exist: set[datetime]
) -> None:
    """Load the hour's rows, and each change that falls into an existing hour.

    So the database does not depend on the order in which hours are made, and no row has a change
    from an hour that does not exist yet.
    """
    for table, rows in data.tables.items():
        database.upsert(table, rows)
    settlements = feed.settlements(hour)
    for later in range(1, SETTLING_HOURS + 1):
        after, before = hour.start + later * HOUR, hour.start - later * HOUR
        if after in exist:
            database.upsert(
                "generations", rows_within(settlements, "updated_at", Window.of_hour(after))
            )
        if before in exist:
            earlier = feed.settlements(Window.of_hour(before))
            database.upsert("generations", rows_within(earlier, "updated_at", hour))


def _entry(hour: Window, feed: Feed, data: HourData) -> SeededHour:
    return SeededHour(
        hour=hour.start,
        fingerprint=feed.fingerprint,
        generations=data.tables["generations"].num_rows,
        evaluations=data.tables["evaluations"].num_rows,
        log_lines=len(data.log_lines),
        metric_samples=sum(family.sample_count for family in data.families),
    )
