"""Windows are half-open spans of whole UTC hours; runs have safe and unique folder names."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.chimera.errors import TerminalError
from include.chimera.window import HOUR, Run, Window, floor_hour, hour_label, parse_hour

MOMENTS = st.datetimes(
    min_value=datetime(1980, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001 - Hypothesis wants naive bounds
    timezones=st.just(UTC),
)


@given(MOMENTS)
def test_every_moment_is_in_exactly_the_hour_that_its_label_names(moment: datetime) -> None:
    """A microsecond before the end is inside, the end itself is the next hour's."""
    window = Window.of_hour(moment)
    assert window.start <= moment < window.end
    assert parse_hour(hour_label(moment)) == window.start == floor_hour(moment)
    assert Window.of_hour(window.end).start == window.end


@given(MOMENTS, st.integers(1, 72))
def test_hours_of_a_window_tile_it_without_gap_or_overlap(moment: datetime, count: int) -> None:
    """Backfills split windows into hours."""
    start = floor_hour(moment)
    hours = list(Window(start, start + count * HOUR).hours())
    assert len(hours) == count
    assert all(one.end == two.start for one, two in pairwise(hours))


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_days_of_clock_changes_have_24_windows(day: str) -> None:
    """Berlin changes its clocks; UTC, and so the pipeline, does not."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    window = Window(start, start + timedelta(days=1))
    assert len({hour_label(hour.start) for hour in window.hours()}) == 24


def test_other_time_zones_are_turned_into_utc() -> None:
    """A window given in local time is the same window."""
    local = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert Window.of_hour(local).labels() == ["20260701T10"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 1, 1, 5), datetime(2026, 1, 1, 6)),  # noqa: DTZ001 - what is refused
        (datetime(2026, 1, 1, 5, 1, tzinfo=UTC), datetime(2026, 1, 1, 6, tzinfo=UTC)),
        (datetime(2026, 1, 1, 6, tzinfo=UTC), datetime(2026, 1, 1, 6, tzinfo=UTC)),
        (
            datetime(2026, 1, 1, 6, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(2026, 1, 1, 7, tzinfo=UTC),
        ),
    ],
)
def test_what_is_no_span_of_whole_hours_is_refused(start: datetime, end: datetime) -> None:
    """Naive, ragged, empty and half-hour windows."""
    with pytest.raises(TerminalError):
        Window(start, end)


@given(st.text("a:+/. \u00e9", min_size=1), st.text("a:+/. \u00e9", min_size=1))
def test_folders_of_different_runs_differ_and_are_safe(one: str, two: str) -> None:
    """A run id may contain anything; its folder's name must not."""
    window = Window.of_hour(datetime(2026, 1, 1, tzinfo=UTC))
    first, second = Run(one, window), Run(two, window)
    assert (first.folder == second.folder) == (one == two)
    assert not set(first.folder) & set("/\\.: %*?")
    assert len(first.correlation_id) == 12


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-01T00:00:00; drop table x", "2026-01-01", ""]
)
def test_what_is_no_moment_is_a_terminal_error(text: str) -> None:
    """A mistyped date is no better at the third attempt."""
    with pytest.raises(TerminalError) as caught:
        Window.parse(text, "2026-01-01T01:00:00+00:00")
    assert caught.value.remedy
    assert "drop" not in str(caught.value)


def test_a_window_over_midnight_names_the_day_of_its_end() -> None:
    """Once `18:00 to 17:00` stood for twenty-three hours."""
    start = datetime(2026, 1, 5, 18, tzinfo=UTC)
    assert str(Window(start, start + HOUR)) == "2026-01-05 18:00 to 19:00 UTC"
    assert str(Window(start, start + 23 * HOUR)) == "2026-01-05 18:00 to 2026-01-06 17:00 UTC"
    assert str(Window(start, start + 6 * HOUR)) == "2026-01-05 18:00 to 2026-01-06 00:00 UTC"
