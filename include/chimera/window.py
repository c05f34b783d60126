"""Windows of time, and the runs that process them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.chimera.errors import TerminalError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = timedelta(hours=1)
_LABEL = "%Y%m%dT%H"


def hour_label(moment: datetime) -> str:
    """Name the UTC hour that holds `moment`: `YYYYMMDDTHH`, the form of `_window_hour`."""
    return moment.astimezone(UTC).isoformat()[:13].replace("-", "")  # strftime: year 1 is "1"


def parse_hour(label: str) -> datetime:
    """Return the start of the hour with the label `YYYYMMDDTHH`, in UTC."""
    return datetime.strptime(label, _LABEL).replace(tzinfo=UTC)


def floor_hour(moment: datetime) -> datetime:
    """Round down to the whole UTC hour."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span [start, end) of whole UTC hours.

    Raises:
        TerminalError: A bound has no time zone or is not a whole hour, or end is not after start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Normalize both bounds to UTC and validate them."""
        for name in ("start", "end"):
            moment = getattr(self, name)
            if moment.tzinfo is None or moment != floor_hour(moment):
                raise TerminalError(
                    expected="a window of whole hours with a time zone",
                    came=f"{name}={moment.isoformat()}",
                    where="window",
                    remedy="give both bounds as YYYY-MM-DDTHH:00:00+00:00",
                )
            object.__setattr__(self, name, moment.astimezone(UTC))
        if self.end <= self.start:
            raise TerminalError(
                expected="an end after the start",
                came=f"[{self.start.isoformat()}, {self.end.isoformat()})",
                where="window",
                remedy="swap the bounds, or make the end at least one hour later",
            )

    def __str__(self) -> str:
        """Return both bounds for people to read; the end's day only if it differs."""
        end = "%H:%M" if self.start.date() == self.end.date() else "%Y-%m-%d %H:%M"
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:{end}} UTC"

    @classmethod
    def parse(cls, start: str, end: str) -> Window:
        """Return the window between two moments in ISO 8601.

        Raises:
            TerminalError: One can't be parsed, or they do not bound whole hours.
        """
        try:
            bounds = [datetime.fromisoformat(text) for text in (start, end)]
        except (TypeError, ValueError):
            raise TerminalError(
                expected="two moments in ISO 8601",
                came="something else",
                where="window",
                remedy="give both bounds as YYYY-MM-DDTHH:00:00+00:00",
            ) from None
        return cls(*bounds)

    @classmethod
    def of_hour(cls, moment: datetime) -> Window:
        """Return the one-hour window that holds `moment`."""
        start = floor_hour(moment)
        return cls(start, start + HOUR)

    def hours(self) -> Iterator[Window]:
        """Yield the window hour by hour, in order."""
        start = self.start
        while start < self.end:
            yield Window(start, start + HOUR)
            start += HOUR

    def labels(self) -> list[str]:
        """Return the `_window_hour` of each hour, in order."""
        return [hour_label(hour.start) for hour in self.hours()]

    def widened(self, hours_before: int = 0, hours_after: int = 0) -> Window:
        """Return the window with whole hours added at its ends."""
        return Window(self.start - hours_before * HOUR, self.end + hours_after * HOUR)


@dataclass(frozen=True)
class Run:
    """One DAG run, as the layers below Airflow know it.

    Args:
        run_id: Airflow's id of the DAG run.
        window: The hours that the run processes.
        moves_watermark: False for a backfill, which must leave watermarks alone.
    """

    run_id: str
    window: Window
    moves_watermark: bool = True

    @property
    def correlation_id(self) -> str:
        """Twelve hex digits, found in each log line, commit, dead letter and message of the run."""
        return hashlib.sha256(self.run_id.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """The run id as a safe, unique folder name."""
        return f"{re.sub(r'[^A-Za-z0-9]+', '-', self.run_id).strip('-')}-{self.correlation_id}"
