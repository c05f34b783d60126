"""Which hours are missed: those due that the ledger lacks."""

from datetime import UTC, datetime

import pytest

from include.chimera.contracts import BRONZE, WINDOW_LEDGER
from include.chimera.errors import ConfigurationError
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.appends import append_rows
from include.chimera.lake.publish.verification import COUNTS
from include.chimera.operations.gaps import first_hour, missed_hours
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Run, Window

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

START = datetime(2026, 1, 5, tzinfo=UTC)
TABLES = [contract.name for contract in BRONZE]
NOW = START + 10.5 * HOUR  # the newest full hour, 9, is the schedule's own


def hour(number: int) -> Window:
    return Window.of_hour(START + number * HOUR)


def record(number: int, kind: str = "scheduled", tables: list[str] = TABLES) -> None:
    """Append an hour's rows to the ledger, as a run of this kind does."""
    run = Run(f"{kind}__{hour(number).start.isoformat()}", hour(number))
    rows = [
        {
            "run_id": run.run_id,
            "correlation_id": run.correlation_id,
            "table_name": table,
            "window_start": run.window.start,
            "window_end": run.window.end,
            **dict.fromkeys(COUNTS, 1),
            "table_version": 0,
            "attempt_token": 1,
            "recorded_at": run.window.end,
        }
        for table in tables
    ]
    append_rows(WINDOW_LEDGER, rows, run)


def missed(now: datetime = NOW) -> list[int]:
    return [(window.start - START) // HOUR for window in missed_hours(now)]


def lose(predicate: str) -> None:
    table = open_table(WINDOW_LEDGER.name)
    assert table is not None
    assert table.delete(predicate)["num_deleted_rows"]


def test_a_fresh_deployment_has_missed_nothing() -> None:
    """No run has worked on an hour, or the first one has just published its own."""
    assert missed() == []
    record(9)
    assert missed() == []
    assert missed(NOW + 3 * HOUR) == [10, 11]


def test_what_the_schedule_went_past_is_missed_but_for_its_newest_hour() -> None:
    for number in (2, 3, 6):
        record(number)
    record(4, "backfill")
    assert missed() == [5, 7, 8]
    record(5, "catch_up")
    assert missed() == [7, 8]


def test_lost_records_are_missed_even_those_of_the_first_hours() -> None:
    """The first hour due is kept when it is first asked for."""
    for number in range(10):
        record(number)
    assert missed() == []
    lose(f"window_start < '{hour(5).start.isoformat()}'")
    assert missed() == [0, 1, 2, 3, 4]
    assert first_hour() == START


def test_a_start_date_is_the_first_hour_due_and_an_end_date_the_last(monkeypatch) -> None:
    record(9)
    monkeypatch.setenv("CHIMERA_START_DATE", hour(6).start.isoformat())
    get_settings.cache_clear()
    assert missed() == [6, 7, 8]
    record(7, "catch_up")
    monkeypatch.setenv("CHIMERA_END_DATE", hour(7).start.isoformat())
    get_settings.cache_clear()
    assert missed() == [6]


def test_an_hour_that_only_some_tables_published_is_missed() -> None:
    """As after a run by hand that read one source alone."""
    for number in (0, 2, 3, 4, 5, 6, 7, 8):
        record(number)
    record(1, "manual", TABLES[:1])
    assert missed() == [1]


def test_a_table_that_is_new_makes_no_history_run_again() -> None:
    for number in range(6):
        record(number, tables=TABLES[1:])
    for number in (6, 8):
        record(number)
    assert missed() == [7]
    record(7, tables=TABLES[1:])
    assert missed() == [7]


def test_a_first_hour_that_is_no_moment_is_told(lake) -> None:
    record(0)
    place = lake / "_controls" / "first_hour"
    place.parent.mkdir()
    place.write_text("yesterday")
    with pytest.raises(ConfigurationError, match="first_hour"):
        missed()
