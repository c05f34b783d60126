"""A small dbt project with the lake's macros, beside a lake of its own."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from include.chimera.lake.dbt_plugin.materializations import Order
from include.chimera.lake.dbt_plugin.session import Session
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.relation import Relation
from tests.integration.dbt.processes import Project
from tests.integration.object_store import forget_settings

MACROS = Path(__file__).parents[3] / "include" / "dbt" / "macros" / "lake"


def make_project(folder: Path, **environment: str) -> Project:
    project = Project(folder, environment)
    config = {"name": "small", "profile": "small", "macro-paths": [str(MACROS)],
              "flags": {"send_anonymous_usage_stats": False}}  # fmt: skip
    profile = {
        "type": "duckdb",
        "path": ":memory:",
        "schema": "dev",
        "threads": 4,
        "plugins": [{"module": "include.chimera.lake.dbt_plugin.plugin", "alias": "lake"}],
    }
    project.write("dbt_project.yml", yaml.safe_dump(config))
    profiles = {"small": {"target": "dev", "outputs": {"dev": profile}}}
    project.write("profiles.yml", yaml.safe_dump(profiles))
    return project


@pytest.fixture(params=["folder"])
def project(request, tmp_path, versions):  # noqa: ARG001 - looks at what the test wrote
    """Return a project; the parameter `bucket` puts its lake into an object store."""
    in_bucket = request.param == "bucket"
    variables = request.getfixturevalue("object_store").new_lake() if in_bucket else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
        for name, value in variables.items():
            patch.setenv(name, value)
        forget_settings()
        yield make_project(tmp_path, **variables)
    forget_settings()


@contextmanager
def lake_session():
    """Open a session of this process on the project's lake."""
    with connect() as connection:
        session = Session(None)
        session.attach(connection)
        yield session, connection


@pytest.fixture
def rows():
    """Return a function that reads the lake in its own session."""

    def read(query: str) -> list[tuple]:
        with lake_session() as (session, connection):
            session.catalog.show_named(query)
            return connection.execute(query).fetchall()

    return read


@pytest.fixture
def store():
    """Return a function that writes a table of the lake in its own session."""

    def write(table: str, query: str, strategy="all", **order) -> None:
        with lake_session() as (session, connection):
            connection.execute(f"create temp view batch as {query}")
            session.write(connection, Order(Relation.of(table), "batch", strategy, **order))

    return write
