"""dbt's own conformance suite against the lake: its fixtures, on a lake in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.duckdb.impl import DuckDBAdapter
from dbt.tests.fixtures.project import *  # noqa: F403 - pytest finds fixtures by their names

from include.chimera.lake.dbt_plugin.statements import changed_by, run_statements
from include.chimera.settings import get_settings
from tests.conformance.exceptions import TARGET
from tests.versions import Versions

MACROS = Path(__file__).parents[2] / "include" / "dbt" / "macros" / "lake"


@pytest.fixture(scope="class", autouse=True)
def lake(tmp_path_factory):
    """Give each class a lake of its own, and a process-like start: no session is left over.

    Each version that the class wrote is checked once it has ended.
    """
    root, written = tmp_path_factory.mktemp("lake"), Versions()
    written.add(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_LAKE_ROOT", str(root))
        patch.setenv("CHIMERA_STATE_DIR", str(root))
        get_settings.cache_clear()
        DuckDBConnectionManager.close_all_connections()
        yield root
        DuckDBConnectionManager.close_all_connections()
        written.check()
    get_settings.cache_clear()


@pytest.fixture(scope="class")
def dbt_profile_target():
    return dict(TARGET)


@pytest.fixture(scope="class")
def dbt_project_yml(project_root, project_config_update):
    """Write the project's file, with the lake's macros beside the project's own."""
    config = {"name": "test", "profile": "test", "flags": {"send_anonymous_usage_stats": False}}
    update = project_config_update
    config.update(yaml.safe_load(update) if isinstance(update, str) else update or {})
    config["macro-paths"] = [*config.get("macro-paths", ["macros"]), str(MACROS)]
    (Path(project_root) / "dbt_project.yml").write_text(yaml.safe_dump(config))
    return config


@pytest.fixture(scope="class", autouse=True)
def statements_reach_the_lake():
    """Let the suite's own SQL (`project.run_sql`) change tables as another writer would.

    Only connections of the suite itself, named `_test`, are concerned: dbt's are not.
    """
    run_sql, execute = DuckDBAdapter.run_sql_for_tests, DuckDBAdapter.execute

    def changes_the_lake(adapter, sql):
        environment = DuckDBConnectionManager._ENV
        session = environment and environment._plugins["lake"]._session
        if session is not None:
            session.catalog.show_named(sql)
        if session is None or not changed_by(session, sql):
            return False
        cursor = adapter.connections.get_thread_connection().handle.cursor()
        run_statements(session, cursor, sql)
        return True

    def run(self, sql, fetch, conn):
        return None if changes_the_lake(self, sql) else run_sql(self, sql, fetch, conn)

    def run_update(self, sql, auto_begin=False, fetch=False, limit=None):
        if self.connections.get_thread_connection().name == "_test" and changes_the_lake(self, sql):
            return None
        return execute(self, sql, auto_begin=auto_begin, fetch=fetch, limit=limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DuckDBAdapter, "run_sql_for_tests", run)
        patch.setattr(DuckDBAdapter, "execute", run_update)
        yield


@pytest.fixture(scope="class")
def profile_user():
    """Return no one: DuckDB has no users."""


@pytest.fixture(scope="class")
def logs_dir(tmp_path_factory):
    """Keep dbt's logs out of the repository."""
    folder = str(tmp_path_factory.mktemp("logs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBT_LOG_PATH", folder)
        yield folder
