"""Measure the age of the newest published hour from the lake alone, without Airflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.contracts import PUBLISHED_VERSIONS, WINDOW_LEDGER
from include.chimera.lake.delta.scans import ask
from include.chimera.profiles.chosen import filled_tables

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True)
class Freshness:
    """The state that a dead man's switch checks.

    Args:
        is_fresh: Whether nothing is older than allowed.
        max_age_seconds: The age allowed.
        age_seconds: From the end of the newest hour whose gates all passed until now; None: there
            is no such hour.
        published_until: The end of that hour, ISO 8601, UTC.
        late_tables: Bronze tables that a profile fills whose newest hour is older than allowed.
    """

    is_fresh: bool
    max_age_seconds: float
    age_seconds: float | None
    published_until: str | None
    late_tables: list[str]


def check_freshness(max_age: timedelta, now: datetime) -> Freshness:
    """Compare the newest published hours with the clock."""
    snapshot = _ends(PUBLISHED_VERSIONS.name, "'all'").get("all")
    ends = _ends(WINDOW_LEDGER.name, "table_name")
    late = [name for name in filled_tables() if name not in ends or now - ends[name] > max_age]
    age = now - snapshot if snapshot else None
    return Freshness(
        is_fresh=age is not None and age <= max_age and not late,
        max_age_seconds=max_age.total_seconds(),
        age_seconds=age.total_seconds() if age is not None else None,
        published_until=snapshot.isoformat() if snapshot else None,
        late_tables=late,
    )


def _ends(name: str, group: str) -> dict[str, datetime]:
    """Return the newest window's end by group; empty if the table is missing."""
    return dict(ask(name, f"select {group}, max(window_end) from ({{}}) group by all"))
