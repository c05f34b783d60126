"""The hours of `make run`: chosen once per state folder, so that a second run repeats the same.

The first hour is a day before the first `make run`, and `HOURS=n` means n hours from there. So
asking for more hours later only adds past hours at the end: there is nothing to wait for, and the
scheduler, which only moves forward, can create the runs. If the first `make run` asks for more than
a day, the first hour is that much earlier.

The state folder belongs to one sample. Another sample (real traces instead of generated rows) would
mix its rows with the old ones in tables that only grow, so it starts with an empty state; the old
state is set aside, not removed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.chimera.errors import TerminalError
from include.chimera.local.private_files import write_private
from include.chimera.window import HOUR, Window, floor_hour

if TYPE_CHECKING:
    from pathlib import Path

    from include.chimera.local.layout import Layout
    from include.chimera.settings import Settings

RESERVE_HOURS = 24
# Kept for another sample: keys and passwords, so that logins and written-down passwords stay valid.
_KEPT = {"lock", "set-aside", "airflow", "setup.lock", "setup.log"}


@dataclass(frozen=True)
class Anchor:
    """The hours and the sample of a state folder.

    Args:
        first_hour: Start of the first hour.
        sample: The sample application's data, as text from `describe_sample`.
    """

    first_hour: datetime
    sample: str

    def hours(self, count: int, now: datetime) -> Window:
        """Return the first `count` hours.

        Raises:
            TerminalError: The last of them has not ended yet.
        """
        window = Window(self.first_hour, self.first_hour + count * HOUR)
        if window.end > floor_hour(now):
            possible = int((floor_hour(now) - self.first_hour) / HOUR)
            raise TerminalError(
                expected=f"hours that ended, from {self.first_hour:%Y-%m-%d %H:%M} UTC on",
                came=f"{count} hours, which end at {window.end:%Y-%m-%d %H:%M} UTC",
                where="HOURS",
                remedy=f"ask for at most {possible}, or `make clean` and start over",
            )
        return window


def describe_sample(settings: Settings) -> str:
    """Describe the sample application's data under these settings."""
    if settings.traces is not None:
        return f"the traces in {settings.traces.expanduser().resolve()}"
    return f"{settings.rows_per_hour} generated rows an hour"


def read_anchor(layout: Layout) -> Anchor | None:
    """Return the anchor of the state folder; None: there is none yet.

    Raises:
        TerminalError: The file is not an anchor.
    """
    if not layout.anchor.exists():
        return None
    try:
        found = json.loads(layout.anchor.read_text())
        return Anchor(datetime.fromisoformat(found["first_hour"]), found["sample"])
    except (ValueError, KeyError, TypeError) as error:
        raise TerminalError(
            expected="an object with first_hour and sample",
            came=type(error).__name__,
            where=str(layout.anchor),
            remedy="`make clean` starts over",
        ) from error


def drop_anchor(layout: Layout, hours: int, sample: str, now: datetime) -> Anchor:
    """Choose the first hour and save it."""
    anchor = Anchor(floor_hour(now) - max(hours, RESERVE_HOURS) * HOUR, sample)
    kept = {"first_hour": anchor.first_hour.isoformat(), "sample": anchor.sample}
    write_private(layout.anchor, json.dumps(kept) + "\n")
    return anchor


def set_aside(layout: Layout, now: datetime) -> Path:
    """Move all state except keys and passwords to a folder below `set-aside`, and return it."""
    target = layout.root / "set-aside" / now.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
    target.mkdir(parents=True)
    for path in sorted(layout.root.iterdir()):
        if path.name not in _KEPT:
            path.rename(target / path.name)
    return target
