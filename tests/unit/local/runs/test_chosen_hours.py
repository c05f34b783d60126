"""The hours of `make run` are chosen once and only ever grow at their end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.chimera.errors import ConfigurationError, TerminalError
from include.chimera.local.layout import Layout
from include.chimera.local.runs.chosen_hours import (
    RESERVE_HOURS,
    describe_sample,
    drop_anchor,
    read_anchor,
    set_aside,
)
from include.chimera.local.runs.planning import choose_hours, hour_variables, plan_start
from include.chimera.settings import Settings, get_settings
from include.chimera.window import HOUR, floor_hour

NOW = datetime(2026, 11, 24, 10, 40, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path):
    return Layout.of(tmp_path)


def test_read_anchor_of_a_new_state_is_none(layout):
    assert read_anchor(layout) is None


def test_anchor_survives_and_ignores_the_clock(layout):
    dropped = drop_anchor(layout, 1, "s", NOW)
    assert read_anchor(layout) == dropped
    much_later = NOW + timedelta(days=40)
    assert dropped.hours(1, NOW) == read_anchor(layout).hours(1, much_later)


def test_more_hours_extend_the_end_and_have_long_passed(layout):
    anchor = drop_anchor(layout, 1, "s", NOW)
    one, three = anchor.hours(1, NOW), anchor.hours(3, NOW)
    assert (one.start, three.end) == (three.start, three.start + 3 * HOUR)
    assert anchor.hours(RESERVE_HOURS, NOW).end == floor_hour(NOW)


def test_first_run_with_more_hours_than_the_reserve_gets_them(layout):
    assert drop_anchor(layout, 48, "s", NOW).hours(48, NOW).end == floor_hour(NOW)


def test_hours_that_have_not_ended_are_refused_with_the_number_possible(layout):
    anchor = drop_anchor(layout, 1, "s", NOW)
    with pytest.raises(TerminalError, match=f"at most {RESERVE_HOURS}"):
        anchor.hours(RESERVE_HOURS + 1, NOW)


def test_broken_anchor_says_what_to_do(layout):
    layout.anchor.write_text("{}")
    with pytest.raises(TerminalError, match="make clean"):
        read_anchor(layout)


def test_another_sample_starts_over_and_keeps_the_old_state(layout):
    said = []
    generated = Settings(state_dir=layout.root)
    first = choose_hours(layout, generated, 1, said.append)
    layout.lake.mkdir()
    (layout.lake / "table").write_text("old")
    layout.airflow.mkdir()
    assert choose_hours(layout, generated, 1, said.append) == first
    assert not said

    choose_hours(layout, Settings(state_dir=layout.root, traces=Path("traces")), 2, said.append)
    assert not layout.lake.exists()
    assert layout.airflow.exists()
    assert [path.read_text() for path in layout.root.glob("set-aside/*/lake/table")] == ["old"]
    assert "starting over" in said[0]


@pytest.fixture
def reports_alone(layout, monkeypatch):
    """Read evaluation reports from the caller's own folder, and nothing else."""
    monkeypatch.setenv("CHIMERA_PROFILE", "reports")
    monkeypatch.setenv("CHIMERA_EVALUATIONS_ROOT", str(layout.root))
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.mark.usefixtures("reports_alone")
def test_own_sources_alone_are_read_up_to_now(layout):
    said = []
    hours = choose_hours(layout, Settings(state_dir=layout.root), 2, said.append)
    assert hours.end in {floor_hour(datetime.now(UTC)), floor_hour(datetime.now(UTC) - HOUR)}
    assert hours.end - hours.start == 2 * HOUR
    assert said == [f"files that were written after {hours.end:%H:%M} UTC come with the next hour"]


def test_a_profile_whose_files_nobody_names_is_told_at_once(layout, monkeypatch):
    monkeypatch.setenv("CHIMERA_PROFILE", "otel")
    get_settings.cache_clear()
    with pytest.raises(ConfigurationError, match="CHIMERA_SPANS_ROOT"):
        plan_start(layout, Settings(state_dir=layout.root), {}, 30)
    monkeypatch.undo()
    get_settings.cache_clear()


def test_set_aside_leaves_the_lock_that_we_hold(layout):
    layout.lock.touch()
    set_aside(layout, NOW)
    assert layout.lock.exists()


def test_describe_sample_tells_samples_apart():
    described = {
        describe_sample(settings)
        for settings in (
            Settings(),
            Settings(rows_per_hour=7000),
            Settings(traces=Path("/a")),
            Settings(traces=Path("/b")),
        )
    }
    assert len(described) == 4


def test_hour_variables_end_with_the_last_hour_inclusive(layout):
    hours = drop_anchor(layout, 2, "s", NOW).hours(2, NOW)
    variables = hour_variables(hours)
    assert datetime.fromisoformat(variables["CHIMERA_START_DATE"]) == hours.start
    assert datetime.fromisoformat(variables["CHIMERA_END_DATE"]) == hours.end - HOUR
    assert variables["CHIMERA_CATCH_UP_RUNS"] == "0"  # each hour in order, by the schedule
