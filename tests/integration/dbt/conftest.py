"""A small dbt project with the lake's macros, beside a lake of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from include.chimera.lake.engine import connect
from include.chimera.lake.session import Session
from include.chimera.settings import get_settings
from tests.integration.dbt.processes import Project

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
        "plugins": [{"module": "include.chimera.lake.plugin", "alias": "lake"}],
    }
    project.write("dbt_project.yml", yaml.safe_dump(config))
    profiles = {"small": {"target": "dev", "outputs": {"dev": profile}}}
    project.write("profiles.yml", yaml.safe_dump(profiles))
    return project


@pytest.fixture
def project(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
        get_settings.cache_clear()
        yield make_project(tmp_path)
    get_settings.cache_clear()


@pytest.fixture
def rows():
    """Return what reads the lake in a session of its own."""

    def read(query: str) -> list[tuple]:
        with connect() as connection:
            session = Session(None)
            session.attach(connection)
            session.catalog.show_named(query)
            return connection.execute(query).fetchall()

    return read
