"""A mutable table: every row once, whatever other sessions, roles and values do."""

import json
import logging
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from include.chimera.alerts import messages
from include.chimera.contracts import MODELS
from include.chimera.errors import (
    ConfigurationError,
    ContractError,
    SourceUnavailableError,
)
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.staged import stage_rows
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.records import write_record
from include.chimera.profiles.chosen import intake_of
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.sources.postgres.sessions import snapshot
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.ingest.pipeline import (
    GENERATION,
    at,
    current,
    extract,
    ingest,
    insert,
    key,
    letters,
    many,
    publish,
    rows,
    run_of,
)
from tests.integration.ingest.servers import PgBouncer

pytestmark = pytest.mark.integration


def keys():
    return [row[0][-3:] for row in rows(columns="generation_id")]


def watermark():
    return open_table(GENERATION).transaction_version(WATERMARK)


def test_windows_are_half_open_at_the_microsecond(server, uri):
    insert(server, 1, at(0, -1))
    insert(server, 2, at(0))
    insert(server, 3, at(1, -1))
    insert(server, 4, at(1))
    ingest(uri, run_of(0))
    assert keys() == ["002", "003"]
    ingest(uri, run_of(1))
    assert keys() == ["002", "003", "004"]


def test_a_large_hour_is_staged_in_several_files_and_each_row_once(server, uri, monkeypatch):
    """DuckDB's memory grows while it writes a file, so that one file bounds it."""
    monkeypatch.setattr(stage_rows, "_ROWS_A_FILE", 10_000)
    server.execute(many(0, 40_000))
    batch = extract(uri, run_of(0))
    assert len(batch.files) > 1
    assert publish(run_of(0)).rows_published == 40_000
    assert rows(columns="count(*), count(distinct generation_id)") == [(40_000, 40_000)]


def test_long_rows_are_staged_in_more_files(server, uri, monkeypatch):
    """DuckDB's memory is bounded in bytes, too; files of short rows are as large as before."""
    monkeypatch.setattr(stage_rows, "_BYTES_A_FILE", 8 * 1024 * 1024)
    server.execute(many(0, 500))
    assert len(extract(uri, run_of(0)).files) == 1
    server.execute("update app.generations set request_id = repeat('x', 64000)")
    batch = extract(uri, run_of(0, "long"))
    assert (batch.rows_read, len(batch.files) > 2) == (500, True)


def test_a_window_twice_changes_nothing(server, uri):
    insert(server, 1, at(0))
    first = ingest(uri, run_of(0))
    again = ingest(uri, run_of(0, "manual", moves_watermark=False))
    assert (first.rows_published, again.rows_published, again.rows_duplicate) == (1, 0, 1)
    assert again.version == first.version


def test_a_row_that_the_source_holds_twice_is_published_once(server, uri):
    """Its unique index is gone; a partial index, or one on an expression, proves nothing."""
    insert(server, 1, at(0))
    assert extract(uri, run_of(0)).is_distinct
    server.execute(
        "alter table app.generations drop constraint generations_pkey",
        "create unique index on app.generations (generation_id) where user_id is not null",
        "create unique index on app.generations (generation_id, (length(status)), user_id)",
        "insert into app.generations select * from app.generations",
    )
    assert not extract(uri, run_of(0)).is_distinct
    published = publish(run_of(0))
    assert (published.rows_published, published.rows_duplicate) == (1, 1)


def test_a_transaction_open_across_runs_is_delivered_once(server, uri):
    """Its rows carry the time at which it began, and appear only when it commits."""
    now = "date_trunc('hour', clock_timestamp())"
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(insert(None, 1, "now()"))
        with snapshot(uri) as source:
            bound = source.safe_bound
        cursor.execute("select now()")
        assert cursor.fetchone()[0] >= bound
        server.execute(insert(None, 2, f"{now} - interval '2 hours'"))
        connection.commit()
    with snapshot(uri) as source:
        assert source.safe_bound >= bound
        assert not source.is_blind


def test_committed_rows_that_an_open_transaction_holds_back_are_told(server, uri, caplog):
    """Once an hour succeeded with 736 rows missing, and nobody could know."""
    now = datetime.now(UTC)
    run = Run("scheduled__now", Window(floor_hour(now) - HOUR, floor_hour(now) + 2 * HOUR))
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select now()")
        (began,) = cursor.fetchone()
        for number in (1, 2):
            server.execute(insert(None, number, "clock_timestamp()"))
        staged = extract(uri, run)
        assert (staged.rows_read, staged.held_back.rows, staged.held_back.transactions) == (0, 2, 1)
        assert staged.held_back.since == began.astimezone(UTC).isoformat(timespec="seconds")
        assert (
            "2 committed rows of the window wait for 1 open transaction, the oldest" in caplog.text
        )
        write_record(run, GENERATION, publish(run))
        report = close_run(run)
        (told,) = report.held_back
        assert told.text == str(load_manifest(run, GENERATION).held_back)
    facts = dict(messages.success(run, "key", report, 1.0, ()).facts)
    assert facts[f"held back: {GENERATION}"] == told.text
    assert extract(uri, run_of(0)).held_back is None, "an hour that was over before it began"


def test_a_prepared_transaction_holds_the_bound_back(server, uri):
    with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute(insert(None, 1, "now()"))
        cursor.execute("select now()")
        began = cursor.fetchone()[0]
        cursor.execute("prepare transaction 'slow'")
    try:
        with snapshot(uri) as source:
            assert source.safe_bound < began
    finally:
        server.execute("commit prepared 'slow'")


@contextmanager
def another_clock(server):
    """Give sessions their own clock; yield a function that sets its offset from this machine's."""
    clock = "create or replace function skewed.clock_timestamp() returns timestamptz language sql"

    def turn(shift):
        statement = f"{clock} as $$ select pg_catalog.clock_timestamp() + interval '{shift}' $$"
        server.execute(statement)

    server.execute("create schema skewed")
    turn(timedelta(0))
    server.execute("alter role postgres set search_path = skewed, pg_catalog, public")
    yield turn
    server.execute("alter role postgres reset search_path", "drop schema skewed cascade")


@pytest.mark.parametrize("skew", [timedelta(hours=-2), timedelta(hours=2)])
def test_the_databases_own_clock_bounds_what_is_read(server, uri, skew):
    """Behind or ahead of the worker's: a row of that moment comes once, with the run that may."""
    now = datetime.now(UTC) + skew
    window = Window(floor_hour(now) - HOUR, floor_hour(now) + 2 * HOUR)
    for number, minutes in ((1, -1), (2, 1)):
        insert(server, number, f"timestamptz '{now + timedelta(minutes=minutes)}'")
    with another_clock(server) as turn:
        turn(skew)
        ingest(uri, Run("first", window))
        assert keys() == ["001"]
        assert watermark() < now.timestamp() * 1_000_000
        turn(skew + timedelta(minutes=5))
        ingest(uri, Run("second", window))
    assert keys() == ["001", "002"]


def test_a_role_that_sees_no_other_sessions_reads_behind_a_fixed_lag(server, caplog):
    server.execute(
        "drop role if exists reader",
        "create role reader login",
        "grant usage on schema app to reader",
    )
    server.execute("grant select on all tables in schema app to reader")
    with caplog.at_level(logging.WARNING), snapshot(server.uri("reader")) as source:
        assert source.is_blind
        source.cursor.execute("select clock_timestamp() - interval '60 minutes'")
        assert abs((source.cursor.fetchone()[0] - source.safe_bound).total_seconds()) < 5
    assert "pg_read_all_stats" in caplog.text
    server.execute("grant pg_read_all_stats to reader")
    with snapshot(server.uri("reader")) as source:
        assert not source.is_blind
    server.execute("drop owned by reader", "drop role reader")


def test_a_session_that_hides_its_activity_makes_the_bound_blind(server, uri):
    with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("set track_activities = off")
        cursor.execute("begin")
        cursor.execute(insert(None, 1, "now()"))
        with snapshot(uri) as source:
            assert source.is_blind
        cursor.execute("rollback")


def settings_seen(uri):
    names = (
        "transaction_read_only",
        "statement_timeout",
        "application_name",
        "TimeZone",
        "transaction_isolation",
    )
    with snapshot(uri) as source:
        reader = source.stream(
            f"select current_setting(name) as value from unnest(array{list(names)}) as name"
        )
        return reader.read_all()["value"].to_pylist()


def test_the_session_is_read_only_bounded_and_named(uri):
    expected = ["on", "4min", "chimera_extract", "UTC", "repeatable read"]
    assert settings_seen(uri) == expected


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="Debian package pgbouncer")
def test_pgbouncer_in_transaction_mode_is_as_good_as_the_server(server):
    """It refuses the start-up parameter `options`, and forgets `set` at the transaction's end."""
    bouncer = PgBouncer(server)
    bouncer.start()
    try:
        assert settings_seen(bouncer.uri())[:2] == ["on", "4min"]
        insert(server, 1, at(0))
        assert ingest(bouncer.uri(), run_of(0)).rows_published == 1
        assert ingest(bouncer.uri(), run_of(1)).rows_published == 0
    finally:
        bouncer.remove()


def test_rows_that_no_window_can_see_are_refused_once(server, uri):
    server.execute("alter table app.generations alter column updated_at drop not null")
    insert(server, 1, at(0))
    for number, moment in ((2, "null"), (3, "'infinity'"), (4, "'-infinity'")):
        insert(server, number, moment, created=at(0))
    insert(server, 5, at(0, 1), created="'infinity'")
    first, second = ingest(uri, run_of(0)), ingest(uri, run_of(1))
    assert (first.rows_read, first.rows_published, first.rows_refused) == (5, 1, 4)
    assert (second.rows_read, second.rows_refused) == (0, 0)
    assert letters("stage, reason, _window_hour") == [
        ("extract", "created_at_out_of_range", "19700101T00"),
        ("extract", "updated_at_null", "20260105T08"),
        ("extract", "updated_at_out_of_range", "20260105T08"),
        ("extract", "updated_at_out_of_range", "20260105T08"),
    ]


@pytest.mark.parametrize("cost", ["'NaN'", "1e9", "0.1234567891"])
def test_a_number_that_would_be_rounded_is_refused(server, uri, cost):
    server.execute("alter table app.generations alter column cost_usd type numeric")
    insert(server, 1, at(0), cost=cost)
    insert(server, 2, at(0), cost="1234.123456789")
    assert ingest(uri, run_of(0)).rows_refused == 1
    assert [str(row[0]) for row in rows(columns="cost_usd")] == ["1234.123456789"]
    assert letters("reason") == [("cost_usd_not_representable",)]


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ("'[5:6]={a,b}'", None),
        ("'{{a,b},{c,d}}'", None),
        ("'[0:1]={a,b}'", None),
        ("'[1:2]={a,b}'", ["a", "b"]),
        ("'{}'", []),
        ("null", None),
        ("'{a,null}'", ["a", None]),
    ],
)
def test_an_array_that_is_no_list_is_refused(server, uri, value, arrives):
    """Otherwise it would lose its bounds or dimensions, or the driver would fail the table."""
    insert(server, 1, at(0))
    insert(server, 2, at(0))
    server.execute(
        f"update app.generations set techniques = {value} where generation_id = '{key(2)}'"
    )
    found = ingest(uri, run_of(0))
    is_refused = arrives is None and value != "null"
    assert found.rows_published == 2 - is_refused
    assert letters("reason") == [("techniques_not_representable",)] * is_refused
    if not is_refused:
        assert arrives in [row[0] for row in rows(columns="techniques")]


MONSTERS = {
    "error_code": "repeat('secret ', 10000)",
    "generation_id": "repeat('secret ', 10000)",
    "techniques": "array_fill('secret'::text, array[7000])",
}


@pytest.mark.parametrize("column", MONSTERS)
def test_a_monstrous_value_costs_its_row_and_no_other(server, uri, column):
    """The letter names the column and its length; the text itself never travels."""
    server.execute(
        "alter table app.generations drop constraint generations_pkey, "
        "alter column generation_id type text"
    )
    for number in (1, 2, 3):
        server.execute(insert(None, number, at(0)).partition(" on conflict")[0])
    server.execute(
        f"update app.generations set {column} = {MONSTERS[column]} "
        f"where generation_id = '{key(2)}'",
        "update app.generations set error_code = repeat('x', 65536), techniques = "
        f"array_fill('x'::text, array[13000]) where generation_id = '{key(3)}'",
    )
    batch = extract(uri, run_of(0))
    assert (batch.rows_read, batch.rows_unparsed) == (3, 1)
    publish(run_of(0))
    found = letters("stage, reason, coordinates, decode(payload)")
    ((reason, where, payload),) = [letter[1:] for letter in found if letter[0] == "extract"]
    assert (reason, len(where) < 300) == (f"{column}_too_long", True)
    assert json.loads(payload)[f"{column}_bytes"] >= 70_000
    assert "secret" not in payload


def test_a_row_of_hundreds_of_megabytes_is_refused_by_its_length(server, uri):
    """It fits into no batch: read, it would fail the table again and again."""
    insert(server, 1, at(0))
    insert(server, 2, at(0))
    server.execute(
        "update app.generations set error_code = repeat(repeat('x', 1000), 300000) "
        f"where generation_id = '{key(2)}'"
    )
    assert ingest(uri, run_of(0)).rows_refused == 1
    assert letters("reason") == [("error_code_too_long",)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("drop column status", "removed: status"),
        ("alter column prompt_tokens type text", "retyped: prompt_tokens text"),
        ("rename column generation_id to id", "added: id; removed: generation_id"),
    ],
)
def test_a_changed_column_stops_the_table_and_is_named(server, uri, change, named):
    insert(server, 1, at(0))
    ingest(uri, run_of(0))
    before = rows()
    server.execute(f"alter table app.generations {change}")
    with pytest.raises(ContractError, match=named):
        extract(uri, run_of(1))
    assert rows() == before


def test_a_frozen_table_stops_at_any_change(server, uri):
    """Prices are read whole and replaced whole: one new column is enough."""
    server.execute("alter table app.models add column colour text")
    with pytest.raises(ContractError, match="added: colour"):
        extract_table(intake_of(MODELS.name), uri, run_of(0))


def test_a_change_that_can_be_lived_with_is_a_warning(server, uri, caplog):
    server.execute(
        "alter table app.generations add column colour text",
        "alter table app.generations drop column error_code",
        "alter table app.generations alter column prompt_tokens type integer",
    )
    insert(server, 1, at(0))
    with caplog.at_level(logging.WARNING):
        assert ingest(uri, run_of(0)).rows_published == 1
    assert "added: colour; removed: error_code" in caplog.text
    assert rows(columns="error_code") == [(None,)]


def test_the_watermark_only_advances_and_a_backfill_leaves_it(uri):
    ingest(uri, run_of(3))
    mark = watermark()
    ingest(uri, run_of(1))
    ingest(uri, run_of(5, "backfill", moves_watermark=False))
    assert watermark() == mark
    ingest(uri, run_of(4))
    assert watermark() == mark + 3_600_000_000


def test_the_newest_version_wins_in_any_order(server, uri):
    insert(server, 1, at(0))
    extract(uri, run_of(0))
    insert(server, 1, at(1), created=at(0), status="failed")
    ingest(uri, run_of(1))
    publish(run_of(0))
    assert [row[3] for row in current()] == ["failed"]
    assert len(rows()) == 2


def test_a_server_that_is_away_or_closed_says_so_without_secrets(server):
    nowhere = "postgresql://a:hush@/x?host=/nowhere"  # pragma: allowlist secret
    with pytest.raises(SourceUnavailableError) as away, snapshot(nowhere):
        pass
    assert "hush" not in str(away.value)
    missing = server.uri().replace("/postgres?", "/missing?")
    with pytest.raises((ConfigurationError, SourceUnavailableError)) as caught, snapshot(missing):
        pass
    assert key(1) not in str(caught.value)
