"""Clean rows of every layer, made once from an hour of the sample application by dbt."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.bronze_publisher import Publisher
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.stage_rows import rows_of
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.paths import DBT_PROJECT, PROJECT
from include.chimera.quality.rules.book import gated_tables
from include.chimera.settings import get_settings
from tests.integration.quality.gating import RUN
from tests.integration.quality.hours import bronze_tables, stage_hour

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

ROWS_PER_HOUR = 2000


@pytest.fixture(scope="module")
def gate_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point the settings at a lake of this module's own, and return its state folder."""
    folder = tmp_path_factory.mktemp("gates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(folder))
        get_settings.cache_clear()
        yield folder
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def clean_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """Return one clean hour of every gated table, silver and gold as dbt builds them."""
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(folder))
        get_settings.cache_clear()
        tables = bronze_tables(GeneratedFeed(ROWS_PER_HOUR), RUN.window)
        publish(tables)
        run_dbt(folder)
        for name in gated_tables():
            if name not in tables:
                tables[name] = read_table(f"dev_{name}")
    get_settings.cache_clear()
    return tables


def publish(tables: dict[str, pa.Table]) -> None:
    """Publish clean rows of bronze tables."""
    stage_hour(RUN, tables)
    for name in tables:
        with connect() as connection:
            batch = load_manifest(RUN, name)
            Publisher(connection, batch, rows_of(RUN, batch), RUN).publish(0)


def run_dbt(folder: Path) -> None:
    """Build every model, as a dbt developer does."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CHIMERA_")}  # noqa: TID251  # a child inherits
    done = subprocess.run(  # noqa: S603  # our own command
        [
            *(sys.executable, "-m", "dbt.cli.main", "run", "--profiles-dir", str(DBT_PROJECT)),
            *("--target-path", str(folder / "target"), "--log-path", str(folder / "logs")),
        ],
        cwd=DBT_PROJECT,
        env={**inherited, "CHIMERA_STATE_DIR": str(folder), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def read_table(name: str) -> pa.Table:
    """Return a table's rows."""
    with connect() as connection:
        return connection.execute(f"from ({scan(open_table(name), name)})").to_arrow_table()
