"""The lake's macros in a small project: what dbt's conformance suite can't check here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from include.chimera.lake.engine import connect
from include.chimera.lake.session import Session
from include.chimera.settings import get_settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
SNAPSHOT = """
snapshots:
  - name: seen
    relation: ref('current')
    config:
      unique_key: id
      strategy: check
      check_cols: [v]
      hard_deletes: invalidate
      dbt_valid_to_current: "timestamp '2099-12-31'"
"""


@pytest.fixture
def project(tmp_path):
    """Return a folder with a dbt project whose lake is beside it, and how to run dbt there."""
    config = {
        "name": "small",
        "profile": "small",
        "macro-paths": [str(ROOT / "include" / "dbt" / "macros" / "lake")],
    }
    profile = {
        "type": "duckdb",
        "path": ":memory:",
        "schema": "dev",
        "plugins": [{"module": "include.chimera.lake.plugin", "alias": "lake"}],
    }
    (tmp_path / "dbt_project.yml").write_text(yaml.safe_dump(config))
    profiles = {"small": {"target": "dev", "outputs": {"dev": profile}}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump(profiles))
    for folder in ("models", "snapshots"):
        (tmp_path / folder).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
        get_settings.cache_clear()
        yield tmp_path
    get_settings.cache_clear()


def dbt(project, *arguments):
    environment = {"PATH": os.defpath, "HOME": str(project), "CHIMERA_STATE_DIR": str(project)}
    command = [str(Path(sys.executable).with_name("dbt")), *arguments]
    return subprocess.run(  # noqa: S603 - our own command line
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def rows(query):
    with connect() as connection:
        session = Session(None)
        session.attach(connection)
        session.catalog.show_all()
        return connection.execute(query).fetchall()


def test_snapshot_ends_changed_and_deleted_rows_and_keeps_the_current_mark(project):
    """Each dbt command is a process of its own."""
    (project / "snapshots" / "seen.yml").write_text(SNAPSHOT)
    model = project / "models" / "current.sql"
    for values in ("(1, 'a'), (2, 'b'), (3, 'c')", "(1, 'a'), (2, 'B')"):
        model.write_text(f"select * from (values {values}) t(id, v)")
        done = dbt(project, "build")
        assert done.returncode == 0, done.stdout
    current = "dbt_valid_to = timestamp '2099-12-31'"
    found = rows(f"select id, v, {current} from dev.seen order by id, dbt_valid_from, {current}")
    assert found == [(1, "a", True), (2, "b", False), (2, "B", True), (3, "c", False)]


def test_grants_are_refused_with_the_place_where_they_belong(project):
    (project / "models" / "shown.sql").write_text(
        "{{ config(materialized='table', grants={'select': ['someone']}) }} select 1 as id"
    )
    done = dbt(project, "run")
    assert done.returncode == 1
    assert "Expected no grants; came grants for select" in done.stdout
