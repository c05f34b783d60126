"""The pipeline's database role: it may read, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from include.chimera.demo.app_database import SCHEMA
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.paths import INCLUDE
from include.chimera.profiles.chosen import SAMPLE, sources
from include.chimera.sources.postgres.extract import extract_table
from tests.builders import run_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
ROLE = INCLUDE / "chimera" / "sources" / "postgres" / "reader_role.sql"


@pytest.fixture
def reader(app_db: str) -> Iterator[str]:
    """Return the URI of a database for the reader's role."""
    with psycopg.connect(app_db, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text())
        connection.execute("alter table app.generations add column prompt_text text")
        connection.execute("create table app.users (user_id text, email text)")
        for _ in range(2):  # may be repeated
            connection.execute(ROLE.read_text())
        user = connection.execute("select current_user").fetchone()
        yield app_db.replace(f"//{user[0]}@", "//chimera_reader@").replace(
            f"user={user[0]}", "user=chimera_reader"
        )
        connection.execute("drop owned by chimera_reader")
        connection.execute("drop role chimera_reader")


def test_role_can_do_what_the_pipeline_does(reader: str, caplog) -> None:
    run = run_of()
    for intake in sources(SAMPLE)["app_db"]:  # one without its grant fails here
        extract_table(intake, reader, run)
        assert load_manifest(run, intake.contract.name).rows_read == 0
    assert "pg_read_all_stats" not in caplog.text  # it sees other sessions' transactions


@pytest.mark.parametrize(
    "statement",
    [
        "select prompt_text from app.generations",
        "select * from app.generations",
        "select * from app.users",
        "select * from app_demo.seeded_hours",
        "set transaction read write; insert into app.models values ('x')",
        "set transaction read write; update app.generations set status = 'x'",
        "set transaction read write; delete from app.evaluations",
        "set transaction read write; create table app.mine (id int)",
        "set transaction read write; create role other",
        "select pg_read_file('postgresql.conf')",
        "select rolpassword from pg_authid",
    ],
)
def test_role_can_do_nothing_else(reader: str, statement: str) -> None:
    with psycopg.connect(reader) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def test_role_is_read_only_by_itself(reader: str) -> None:
    with psycopg.connect(reader) as connection, pytest.raises(errors.ReadOnlySqlTransaction):
        connection.execute("create temporary table mine (id int); insert into mine values (1)")
