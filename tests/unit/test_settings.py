"""Settings: frozen, with working defaults; wrong values are refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from include.chimera.errors import ConfigurationError, TerminalError
from include.chimera.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def bare_environment(lake: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unset every setting except the state folder; return that."""
    for name in Settings.model_fields:
        if name != "state_dir":
            monkeypatch.delenv(f"CHIMERA_{name.upper()}", raising=False)
    return lake.parent


def test_defaults_keep_everything_below_the_state_folder(bare_environment: Path) -> None:
    """A newcomer needs to set nothing."""
    settings = get_settings()
    assert settings.lake == str(bare_environment / "lake")
    assert settings.api_logs == str(bare_environment / "sources" / "api_logs")
    assert (settings.run, settings.traces) == (None, None)
    assert (settings.start_date, settings.end_date) == (None, None)


def test_roots_may_be_an_object_store_and_lose_their_final_slash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Joining names adds the slash."""
    monkeypatch.setenv("CHIMERA_LAKE_ROOT", "s3://bucket/lake/")
    assert get_settings().lake == "s3://bucket/lake"


def test_a_url_has_no_part_that_clients_leave_out_before_they_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A strict store takes `//` and `/./` as parts of a key, and answers 403 to the others."""
    monkeypatch.setenv("CHIMERA_LAKE_ROOT", "s3://bucket//some/./lake//")
    assert get_settings().lake == "s3://bucket/some/lake"
    assert get_settings().reports == "s3://bucket/some/lake/_reports"


def test_settings_are_read_once_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behaviour must not change in the middle of a task."""
    before = get_settings()
    monkeypatch.setenv("CHIMERA_LOOKBACK_HOURS", "9")
    assert get_settings() is before
    with pytest.raises(ValidationError, match="frozen"):
        before.lookback_hours = 9


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-03-29T02:00:00+02:00", 0),
        ("2026-03-29T02:00:00", 2),
        ("2026-03-29", 0),
    ],
)
def test_dates_are_utc_unless_they_say_otherwise(
    monkeypatch: pytest.MonkeyPatch, text: str, hour: int
) -> None:
    """The schedule has no local time."""
    monkeypatch.setenv("CHIMERA_START_DATE", text)
    assert get_settings().start_date == datetime(2026, 3, 29, hour, tzinfo=UTC)


@pytest.mark.parametrize("name", ["START_DATE", "END_DATE"])
@pytest.mark.parametrize("text", ["2026-01-01T05:30:00Z", "2026-01-01T05:00:00+05:30"])
def test_ragged_dates_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A schedule of half hours would give windows without a partition in any table."""
    monkeypatch.setenv(f"CHIMERA_{name}", text)
    with pytest.raises(ConfigurationError, match="a whole hour"):
        get_settings()


def test_a_schedule_that_runs_each_hour_in_order_needs_a_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow would never begin."""
    monkeypatch.setenv("CHIMERA_CATCH_UP_RUNS", "0")
    with pytest.raises(ConfigurationError, match="CHIMERA_START_DATE"):
        get_settings()
    monkeypatch.setenv("CHIMERA_START_DATE", "2026-03-29")
    assert get_settings().catch_up_runs == 0


def test_a_run_with_a_ragged_window_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window that Airflow passes to dbt is checked like any other."""
    window = '{"start": "2026-01-01T05:30:00Z", "end": "2026-01-01T06:30:00Z"}'
    monkeypatch.setenv("CHIMERA_RUN", f'{{"run_id": "r", "window": {window}}}')
    with pytest.raises(TerminalError, match="whole hours"):
        Settings()


OUT_OF_BOUNDS = [
    ("LOOKBACK_HOURS", "-1"),
    ("VACUUM_HOURS", "24"),
    ("SCRAPE_STEP_SECONDS", "0"),
    ("RETRY_BASE_SECONDS", "0"),
    ("CATCH_UP_RUNS", "-1"),
    ("DUCKDB_THREADS", "many"),
    ("END_DATE", "tomorrow"),
    ("RUN", "no json"),
]


@pytest.mark.parametrize(("name", "text"), OUT_OF_BOUNDS)
def test_values_out_of_bounds_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """A vacuum after a day would remove files that wait for their gate."""
    monkeypatch.setenv(f"CHIMERA_{name}", text)
    with pytest.raises((ValidationError, ConfigurationError), match=rf"(?i){name}"):
        get_settings()


def test_a_refused_value_is_never_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting does not fix itself in seven minutes."""
    monkeypatch.setenv("CHIMERA_LOOKBACK_HOURS", "-1")
    with pytest.raises(ConfigurationError, match="CHIMERA_LOOKBACK_HOURS"):
        get_settings()


@pytest.mark.parametrize("name", ["traces", "end_date", "run", "lookback_hours"])
def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """`CHIMERA_TRACES= make run`, or a line of .env without a value."""
    default = getattr(get_settings(), name)
    monkeypatch.setenv(f"CHIMERA_{name.upper()}", "")
    assert getattr(Settings(), name) == default


@pytest.mark.parametrize("sign", ["%", "[", "]", "*", "?", "\\", "\n"])
def test_a_lake_whose_path_readers_decode_otherwise_is_refused(monkeypatch, sign: str) -> None:
    """At the start, before an unreadable table is written there."""
    monkeypatch.setenv("CHIMERA_LAKE_ROOT", f"/somewhere/50{sign}/lake")
    with pytest.raises(ConfigurationError, match="a lake whose path has no"):
        Settings()
