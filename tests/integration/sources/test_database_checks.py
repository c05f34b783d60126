"""What doctor says of a real database: everything an hour needs, and the line that mends it."""

import psycopg
import pytest

from include.chimera.demo.app_database import SCHEMA
from include.chimera.profiles.chosen import SAMPLE, intake_of, sources
from include.chimera.sources.postgres.database_checks import check_database
from include.chimera.sources.postgres.extract import extract_table
from tests.builders import run_of
from tests.integration.sources.test_reader_role import ROLE

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

TABLES = {f"database: {intake.reader.table}" for intake in sources(SAMPLE)["app_db"]}


@pytest.fixture
def owner(app_db: str):
    """Return a session of the owner of a database in which the reader's role has its grants."""
    with psycopg.connect(app_db, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        connection.execute(ROLE.read_text())
        yield connection
        connection.execute("drop owned by chimera_reader")
        connection.execute("drop role chimera_reader")


@pytest.fixture
def look(owner, app_db):
    """Return a function that gives each finding by its check."""
    user = owner.execute("select current_user").fetchone()[0]
    reader = app_db.replace(f"//{user}@", "//chimera_reader@")
    return lambda uri=reader: {each.check: each for each in check_database(uri)}


def test_a_reader_as_it_should_be_lacks_nothing(look) -> None:
    found = look()
    assert set(found) > TABLES
    assert [each for each in found.values() if not each.is_kept or each.remedy] == []
    assert found["database: login"].text.startswith("as chimera_reader, PostgreSQL")


@pytest.mark.parametrize(
    ("harm", "check", "remedy"),
    [
        (
            "revoke select (cost_usd) on app.generations from chimera_reader",
            "database: app.generations",
            "grant select (cost_usd) on app.generations to chimera_reader;",
        ),
        (
            "revoke pg_read_all_stats from chimera_reader",
            "database: sight",
            "grant pg_read_all_stats to chimera_reader;",
        ),
    ],
)
def test_a_missing_grant_is_named_with_the_line_that_mends_it(
    owner, look, harm, check, remedy
) -> None:
    owner.execute(harm)
    missing = {each.check: each.remedy for each in look().values() if not each.is_kept}
    assert missing == {check: remedy}
    owner.execute(remedy)
    assert all(each.is_kept for each in look().values())


def test_a_table_or_column_that_is_not_there_is_named(owner, look) -> None:
    owner.execute("alter table app.evaluations rename to others")
    owner.execute("alter table app.models alter column input_usd_per_mtok type text")
    found = look()
    assert "no such table" in found["database: app.evaluations"].text
    assert "retyped: input_usd_per_mtok text" in found["database: app.models"].text
    assert found["database: app.generations"].is_kept


def test_no_index_is_told_and_no_fault(owner, look) -> None:
    owner.execute(
        "do $$ declare name text; begin for name in select indexrelid::regclass "
        "from pg_index where indrelid = 'app.generations'::regclass and not indisprimary "
        "loop execute 'drop index ' || name; end loop; end $$"
    )
    finding = look()["database: app.generations"]
    assert finding.is_kept
    assert "create index concurrently on app.generations (updated_at);" in finding.text


def test_a_login_that_fails_ends_the_checks(look, app_db) -> None:
    (finding,) = look(app_db.replace("/app?", "/nowhere?")).values()
    assert not finding.is_kept
    assert 'database "nowhere" does not exist' in finding.text


def test_views_stand_for_tables_that_are_elsewhere(owner, look, app_db) -> None:
    """The hour reads them as it reads tables."""
    owner.execute("create schema elsewhere; alter table app.models set schema elsewhere")
    owner.execute("create view app.models as select * from elsewhere.models")
    owner.execute(
        "insert into elsewhere.models (model_id, provider_id, name, updated_at) "
        "values ('m', 'p', 'n', now())"
    )
    try:
        assert not look()["database: app.models"].is_kept
        owner.execute(ROLE.read_text())
        assert look()["database: app.models"].is_kept
        assert extract_table(intake_of("bronze.models"), app_db, run_of()).rows_read == 1
    finally:
        owner.execute("drop schema elsewhere cascade")
