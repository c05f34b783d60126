"""Reading a real PostgreSQL: exact bounds, exact types, and no row behind an open transaction."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pytest

from include.chimera.contracts import GENERATIONS, MODELS
from include.chimera.demo.app_database import SCHEMA
from include.chimera.errors import SourceUnavailableError
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.tables import contract_table
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.profiles.chosen import intake_of
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.window import HOUR as ONE_HOUR
from include.chimera.window import Run, Window, floor_hour
from tests.builders import HOUR, run_of, staged_rows

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

MICROSECOND = timedelta(microseconds=1)
INSERT = (
    "insert into app.generations (generation_id, created_at, updated_at, status, techniques, "
    "cost_usd, prompt_tokens) values (gen_random_uuid(), %s, %s, %s, %s, %s, %s)"
)


@pytest.fixture
def source(app_db: str) -> str:
    """Return the URI of an application database with its tables, all empty."""
    with psycopg.connect(app_db, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
    return app_db


def insert(uri: str, *moments: datetime, **values: object) -> None:
    """Insert one generation for each given `updated_at`."""
    columns = ("techniques", "cost_usd", "prompt_tokens")
    with psycopg.connect(uri) as connection:
        for number, moment in enumerate(moments):
            row = [values.get(column) for column in columns]
            connection.execute(INSERT, [moment, moment, f"row{number}", *row])


def extract(uri: str, run: Run) -> list[str]:
    """Extract the generations of a run; return the staged rows' status."""
    extract_table(intake_of(GENERATIONS.name), uri, run)
    return [status for (status,) in staged(run, "status")]


def staged(run: Run, columns: str, table: str = GENERATIONS.name) -> list[tuple]:
    """Return columns of what the run staged, sorted."""
    return sorted(duckdb.execute(f"select {columns} from ({staged_rows(run, table)})").fetchall())


def set_watermark(moment: datetime) -> None:
    """Set the table's watermark."""
    change = Change(marks={WATERMARK: int(moment.timestamp() * 1_000_000)})
    name = GENERATIONS.name
    commit(name, lambda: contract_table(name), lambda _: change)


def test_window_is_half_open_to_the_microsecond(source: str) -> None:
    """Four rows around the two bounds: each hour's run reads exactly its own."""
    end = HOUR + ONE_HOUR
    insert(source, HOUR - MICROSECOND, HOUR, end - MICROSECOND, end)
    assert extract(source, run_of(HOUR - ONE_HOUR)) == ["row0"]
    assert extract(source, run_of()) == ["row1", "row2"]
    assert extract(source, run_of(end)) == ["row3"]


def test_reading_starts_an_overlap_behind_the_watermark(source: str) -> None:
    """Ten minutes, to the microsecond; a backfill reads only its own window."""
    start = HOUR - timedelta(minutes=10)
    insert(source, start - MICROSECOND, start, HOUR)
    set_watermark(HOUR)
    assert extract(source, run_of()) == ["row1", "row2"]
    assert extract(source, run_of(run_id="backfill", moves_watermark=False)) == ["row2"]


def test_hours_that_no_run_read_are_caught_up(source: str) -> None:
    """If an hour failed for good, the next one also reads its rows."""
    insert(source, HOUR - timedelta(minutes=90), HOUR)
    set_watermark(HOUR - timedelta(hours=2))
    assert extract(source, run_of()) == ["row0", "row1"]


def test_watermark_is_the_end_of_a_window_that_has_passed(source: str) -> None:
    """As far as anybody knows, no more rows can come."""
    batch = extract_table(intake_of(GENERATIONS.name), source, run_of())
    assert batch.watermark == int((HOUR + ONE_HOUR).timestamp() * 1_000_000)


def test_reading_stops_before_an_open_transaction(source: str) -> None:
    """It may commit a row with its start time after later rows were read."""
    with psycopg.connect(source) as slow:
        (began,) = slow.execute("select now()").fetchone()
        insert(source, began - timedelta(minutes=1), began - MICROSECOND, began)
        time.sleep(5.5)  # reading keeps five seconds behind the clock anyway
        hour = floor_hour(began)
        run = Run("scheduled__now", Window(hour - ONE_HOUR, hour + 2 * ONE_HOUR))
        assert extract(source, run) == ["row0", "row1"]
        mark = extract_table(intake_of(GENERATIONS.name), source, run).watermark
        assert datetime.fromtimestamp(mark / 1_000_000, UTC) == began
        slow.commit()
    assert extract(source, run) == ["row0", "row1", "row2"]


def test_values_arrive_exactly_and_in_the_contracts_types(source: str) -> None:
    """uuid as text, numeric to the last digit, arrays as lists, empty ones apart from missing."""
    exact = Decimal("123456789.123456789")
    insert(source, HOUR, techniques=["a,b", 'c"d', "é"], cost_usd=exact, prompt_tokens=2**62)
    insert(source, HOUR + MICROSECOND, techniques=[])
    insert(source, HOUR + 2 * MICROSECOND)
    run = run_of()
    extract(source, run)
    assert staged(run, "updated_at, techniques, cost_usd, prompt_tokens, _window_hour") == [
        (HOUR, ["a,b", 'c"d', "é"], exact, 2**62, "20260101T05"),
        (HOUR + MICROSECOND, [], None, None, "20260101T05"),
        (HOUR + 2 * MICROSECOND, None, None, None, "20260101T05"),
    ]
    ids = [text for (text,) in staged(run, "generation_id")]
    assert all(len(text) == 36 and text.count("-") == 4 for text in ids)


def test_row_hash_changes_with_the_row_and_with_nothing_else(source: str) -> None:
    """It distinguishes versions, and recognizes a row that is read twice."""
    insert(source, HOUR, cost_usd=Decimal("0.5"))
    hashes = []
    for change in ("cost_usd = cost_usd", "cost_usd = 0.500000000", "cost_usd = null"):
        with psycopg.connect(source) as connection:
            connection.execute(f"update app.generations set {change}")
        run = run_of(run_id=change)
        extract(source, run)
        hashes += staged(run, "_row_hash")
    assert hashes[0] == hashes[1] != hashes[2]


def test_models_are_read_whole(source: str) -> None:
    """A small table has no window."""
    with psycopg.connect(source) as connection:
        connection.execute(
            "insert into app.models (model_id, input_usd_per_mtok, is_enabled, updated_at) "
            "values ('m1', 0.1, true, '2020-01-01Z'), ('m2', null, false, '2030-01-01Z')"
        )
    run = run_of()
    assert extract_table(intake_of(MODELS.name), source, run).rows_read == 2
    assert staged(run, "model_id, input_usd_per_mtok, is_enabled", "bronze.models") == [
        ("m1", 0.1, True),
        ("m2", None, False),
    ]


def test_server_that_is_away_may_be_tried_again_and_no_secret_is_told(tmp_path: Path) -> None:
    """The URI contains the password, so the message names the Airflow connection instead."""
    uri = f"postgresql://reader:s3cr3t@/app?host={tmp_path}"  # pragma: allowlist secret
    with pytest.raises(SourceUnavailableError, match="app_db") as caught:
        extract_table(intake_of(GENERATIONS.name), uri, run_of())
    assert "s3cr3t" not in f"{caught.value}{caught.value.__cause__}"
