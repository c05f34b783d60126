"""Seeding fills a real PostgreSQL and the folders beside it, once."""

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from adbc_driver_postgresql import dbapi

from include.chimera.demo import app_database
from include.chimera.demo.application import api_log_place, metrics_path, seed
from include.chimera.errors import ConfigurationError, SourceUnavailableError
from include.chimera.lake.store import storage
from include.chimera.profiles.chosen import SAMPLE, intake_of, sources
from include.chimera.settings import Settings, get_settings
from include.chimera.sources.api_logs.log_files import log_root, read_lines
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.window import HOUR, Run, Window
from tests.integration.conftest import empty
from tests.integration.object_store import lake_in

pytestmark = pytest.mark.integration

FIRST = Window.of_hour(datetime(2026, 1, 5, 8, tzinfo=UTC))
SECOND = Window.of_hour(FIRST.end)
TABLES = [*(intake.reader.table for intake in sources(SAMPLE)["app_db"]), "app_demo.seeded_hours"]


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path, rows_per_hour=1000, traces=None)


def query(app_db, sql):
    with dbapi.connect(app_db) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def contents(app_db, settings):
    rows = {table: query(app_db, f"select * from {table} order by 1") for table in TABLES}
    files = {
        path.relative_to(settings.state_dir): path.read_bytes()
        for path in sorted(settings.state_dir.rglob("*"))
        if path.is_file()
    }
    return rows, files


def test_seed_twice_changes_nothing(app_db, settings):
    first = seed(app_db, [Window(FIRST.start, SECOND.end)], settings)
    before = contents(app_db, settings)
    again = seed(app_db, [FIRST, SECOND], settings)
    assert contents(app_db, settings) == before
    assert first.hours_made == ["20260105T08", "20260105T09"]
    assert again.hours_made == []
    assert again.rows == first.rows
    assert all(before[0].values())  # no table of the sample is forgotten
    assert len(before[0]["app.generations"]) == first.rows["generations"]
    assert len(before[0]["app.evaluations"]) == first.rows["evaluations"]
    assert len(before[0]["app.models"]) == first.rows["models"]


def test_order_of_seeding_does_not_matter(app_db, settings, tmp_path):
    seed(app_db, [FIRST, SECOND], settings)
    together = contents(app_db, settings)
    empty(app_db)
    apart = settings.model_copy(update={"state_dir": tmp_path / "apart"})
    seed(app_db, [SECOND], apart)
    seed(app_db, [FIRST], apart)
    assert contents(app_db, apart)[0] == together[0]


def test_rows_change_only_in_hours_that_exist(app_db, settings):
    changed = "select count(*) from app.generations where updated_at >= '2026-01-05 09:00+00'"
    late = f"{changed} and created_at < '2026-01-05 09:00+00' and cost_usd is not null"
    seed(app_db, [FIRST], settings)
    assert query(app_db, changed) == [(0,)]
    seed(app_db, [SECOND], settings)
    assert query(app_db, late)[0][0] > 0


def test_lost_files_are_written_again_to_the_byte(app_db, settings):
    seed(app_db, [FIRST], settings)
    before = contents(app_db, settings)
    Path(api_log_place(settings, FIRST.start)).unlink()
    metrics_path(settings, FIRST.start).unlink()
    assert seed(app_db, [FIRST], settings).hours_made == []
    assert contents(app_db, settings) == before


def test_another_making_of_an_hour_is_refused(app_db, settings):
    seed(app_db, [FIRST], settings)
    before = contents(app_db, settings)
    with pytest.raises(ConfigurationError, match="make clean"):
        seed(app_db, [SECOND, FIRST], settings.model_copy(update={"rows_per_hour": 2000}))
    assert contents(app_db, settings) == before


def test_traces_are_loaded_once_and_stay_anchored(app_db, settings, traces_folder):
    settings = settings.model_copy(update={"traces": traces_folder})
    third = Window.of_hour(SECOND.end)
    assert seed(app_db, [FIRST], settings).rows["generations"] == 24_823
    report = seed(app_db, [SECOND, third], settings)
    assert report.rows["generations"] == 4_862
    totals = "select count(*), sum(prompt_tokens)::bigint from app.generations"
    assert query(app_db, f"{totals} where provider_id = 'azure'") == [
        (28_185, 18_059_974 + 22_361_870)
    ]
    assert Path(api_log_place(settings, third.start)).read_bytes() == b""
    with pytest.raises(ConfigurationError, match="20260105T08"):
        seed(app_db, [Window.of_hour(FIRST.start - HOUR)], settings)


def test_a_server_that_is_away_may_be_tried_again(settings, tmp_path):
    with pytest.raises(SourceUnavailableError):
        seed(f"postgresql://postgres:@/app?host={tmp_path}", [FIRST], settings)


@pytest.fixture
def bucket(object_store, monkeypatch):
    """Return a place in an object store that the variables lead to."""
    with lake_in(object_store, monkeypatch) as root:
        yield root


def test_the_log_may_lie_in_an_object_store(app_db, settings, bucket):
    """And is written again, as a file is, where it is lost."""
    remote = settings.model_copy(update={"api_logs_root": f"{bucket}/logs"})
    report = seed(app_db, [FIRST], remote)
    storage.delete_files([api_log_place(remote, FIRST.start)])
    assert seed(app_db, [FIRST], remote).hours_made == []
    folder = log_root(remote.api_logs).hour(FIRST.start)
    assert folder.names == ["_SUCCESS", "api.jsonl"]
    assert len(list(read_lines(folder.files[0], is_finished=True))) == report.log_lines > 500


def test_feeding_beside_an_open_transaction_waits_for_nobody_and_blocks_nobody(app_db, settings):
    """Once a lock was awaited each minute, and whoever wrote waited behind it: for 836 seconds."""
    seed(app_db, [FIRST], settings)
    impatient = f"{app_db}&options=-c%20lock_timeout%3D1000"
    with psycopg.connect(app_db) as writer, psycopg.connect(impatient) as other:
        for table in ("evaluations", "models"):
            writer.execute(f"update app.{table} set updated_at = updated_at")  # left open
        writer.execute(
            "insert into app.generations (generation_id, created_at, updated_at, status) "
            "values (gen_random_uuid(), now(), now(), 'ok')"
        )
        assert seed(impatient, [FIRST], settings).hours_made == []
        assert seed(impatient, [SECOND], settings).hours_made == ["20260105T09"]
        other.execute("insert into app.models (model_id, updated_at) values ('new', now())")


def test_what_is_locked_is_not_waited_for(app_db, settings, monkeypatch):
    """A missing part of the schema is left for the next attempt."""
    monkeypatch.setattr(app_database, "_LOCK_TIMEOUT", "50ms")
    seed(app_db, [FIRST], settings)
    with psycopg.connect(app_db, autocommit=True) as admin:
        admin.execute("drop index app.models_updated_at")
    with psycopg.connect(app_db) as writer:
        writer.execute("update app.models set updated_at = updated_at")
        with pytest.raises(SourceUnavailableError, match="55P03"):
            seed(app_db, [FIRST], settings)
    seed(app_db, [FIRST], settings)
    assert query(app_db, "select to_regclass('app.models_updated_at') is not null") == [(True,)]


def test_the_profile_litellm_has_the_same_calls_in_litellms_tables(app_db, settings, monkeypatch):
    """`make run PROFILE=litellm`: made by its own migrations, read by its own profile."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("CHIMERA_PROFILE", "litellm")
    get_settings.cache_clear()
    try:
        for _ in range(2):
            made = seed(app_db, [FIRST], settings.model_copy(update={"profile": "litellm"}))
        with dbapi.connect(app_db) as connection, connection.cursor() as cursor:
            cursor.execute('select count(*) from "LiteLLM_SpendLogs"')
            assert cursor.fetchone() == (made.rows["generations"],)
        run = Run("litellm", FIRST)
        read = extract_table(intake_of("bronze.generations"), app_db, run)
        assert read.rows_read > 0.9 * made.rows["generations"], "but calls that end an hour later"
        models = extract_table(intake_of("bronze.models"), app_db, run)
        assert models.rows_read == made.rows["models"]
        assert (read.rows_unparsed, models.rows_unparsed) == (0, 0)
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
        with psycopg.connect(app_db, autocommit=True) as connection:
            connection.execute("drop schema public cascade; create schema public")
