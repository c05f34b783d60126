"""The steps of an hour without Airflow and GX: extract, split, publish, query the result."""

from datetime import UTC, datetime, timedelta

from include.chimera.contracts import CONTRACTS
from include.chimera.demo.app_database import SCHEMA
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.stage_rows import check_files, rows_of
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.profiles.chosen import intake_of
from include.chimera.quality.batches import window_and_keys
from include.chimera.quality.bronze_gate import publish_rows
from include.chimera.quality.rules.book import rule_book
from include.chimera.quality.rules.good_and_bad_rows import bad_rows
from include.chimera.sources.postgres.extract import extract_table
from include.chimera.window import HOUR, Run, Window

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
GENERATION = "bronze.generations"


def hour(number):
    """Return the window of the number-th hour."""
    return Window.of_hour(START + number * HOUR)


def run_of(number, name=None, *, moves_watermark=True):
    """Return the scheduled run of the number-th hour, or another run with that name."""
    return Run(name or f"scheduled__{number}", hour(number), moves_watermark)


def at(hours, microseconds=0):
    """Return a time as SQL text: so many hours after the first hour."""
    moment = START + timedelta(hours=hours, microseconds=microseconds)
    return f"timestamptz '{moment.isoformat()}'"


def create_schema(server):
    server.execute(
        "drop schema if exists app cascade",
        *(part for part in SCHEMA.read_text().split(";\n") if part.strip()),
    )


def insert(server, number, updated, **values):
    """Insert or replace the generation with this number, or give the statement's text."""
    created, status, cost = (
        values.get(name, default)
        for name, default in (("created", updated), ("status", "succeeded"), ("cost", "0.5"))
    )
    sql = (
        "insert into app.generations (generation_id, created_at, updated_at, status, cost_usd) "
        f"values ('{key(number)}', {created}, {updated}, '{status}', {cost}) "
        "on conflict (generation_id) do update set updated_at = excluded.updated_at, "
        "status = excluded.status, cost_usd = excluded.cost_usd"
    )
    if server is not None:
        server.execute(sql)
    return sql


def many(hours, count):
    """Return the statement that inserts so many generations, a millisecond apart."""
    return (
        "insert into app.generations select gen_random_uuid(), m, m, md5(n::text), md5(n::text), "
        "md5(n::text), 'p', 'm', n % 997, n % 997, n % 997, n % 997, 'succeeded', null, null, "
        f"0.1 from (select n, {at(hours)} + n * interval '1 ms' as m "
        f"from generate_series(1, {count}) as n) as t"
    )


def key(number):
    return f"00000000-0000-4000-8000-{number:012d}"


def extract(uri, run, table=GENERATION):
    return extract_table(intake_of(table), uri, run)


def publish(run, table=GENERATION, batch=None):
    """Publish as bronze's gate does after a positive verdict."""
    batch = batch or load_manifest(run, table)
    check_files(run, batch)
    with connect() as connection:
        window_and_keys(rule_book(table), run, batch, connection)(connection)
        query = f"select count(*) from ({bad_rows(table, rows_of(run, batch))})"
        (refused,) = connection.execute(query).fetchone()
        return publish_rows(connection, batch, run, rows_refused=refused + batch.rows_unparsed)


def ingest(uri, run, table=GENERATION):
    extract(uri, run, table)
    return publish(run, table)


def rows(table=GENERATION, columns="*", version=None):
    """Return a lake table's rows, sorted; none if it does not exist."""
    found = open_table(table, version)
    if found is None:
        return []
    with connect() as connection:
        return connection.execute(
            f"select {columns} from ({scan(found, table)}) order by all"
        ).fetchall()


def current(table=GENERATION):
    """Return the newest version of each key that is not deleted: what the marts see."""
    (name,) = CONTRACTS[table].key
    found = open_table(table)
    if found is None:
        return []
    with connect() as connection:
        return connection.execute(
            f"select {name}, created_at, updated_at, status, cost_usd from ("
            f"from ({scan(found, table)}) qualify row_number() over ("
            f"partition by {name} order by updated_at desc, _row_hash desc) = 1"
            ") where not _is_deleted order by all"
        ).fetchall()


def letters(columns="source, stage, reason"):
    return rows("ops.dead_letters", columns)
