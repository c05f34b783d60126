"""The dbt project on a small lake: each dbt invocation is a process of its own, as in Airflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.chimera.contracts import PARTITION
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of
from include.chimera.quality.rules.book import rule_book
from include.chimera.settings import get_settings
from include.chimera.window import hour_label
from tests.integration.dbt.small_bronze import (
    HOURS,
    LATE_HOURS,
    publish_history,
    publish_late_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[3] / "include" / "dbt"
QUIET_DAY = "20260101"
HOURLY = ["stg_app__generations", "fct_generations", "agg_provider_hourly"]
SCHEMAS = {"staging": "dev_silver", "marts": "dev_gold"}
TABLES = sorted(
    f"{schema}.{path.stem}"
    for folder, schema in SCHEMAS.items()
    for path in (PROJECT / "models" / folder).rglob("*.sql")
)


def dbt(state: Path, *arguments: str) -> str:
    """Run dbt in the project's folder, as a dbt developer does."""
    command = [str(Path(sys.executable).with_name("dbt")), *arguments]
    places = ["--target-path", str(state / "target"), "--log-path", str(state / "logs")]
    environment = {"PATH": os.defpath, "HOME": str(state), "CHIMERA_STATE_DIR": str(state)}
    done = subprocess.run(  # noqa: S603 - our own command line
        [*command, *places],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def rows_by_table() -> dict[str, list[tuple]]:
    with connect() as connection:
        return {
            table: connection.sql(
                f"select * from delta_scan('{folder_of(table)}') order by all"
            ).fetchall()
            for table in TABLES
        }


def files_by_partition(table: str) -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in open_table(table).file_uris():
        found[path.split("/")[-2]].append(path)
    return {partition: sorted(paths) for partition, paths in found.items()}


@contextmanager
def unreadable_quiet_day(tables: list[str]) -> Iterator[None]:
    """Spoil the files of the day that no late row touches, so that opening one fails."""
    pattern = f"{PARTITION}={QUIET_DAY}T*/*.parquet"
    contents = {
        path: path.read_bytes() for table in tables for path in Path(folder_of(table)).glob(pattern)
    }
    assert len(contents) >= 2 * len(tables)
    for path, content in contents.items():
        path.write_bytes(b"spoilt".ljust(len(content)))
    yield
    for path, content in contents.items():
        path.write_bytes(content)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Build, run again, build after late rows with a day's files spoilt, rebuild whole."""
    state = tmp_path_factory.mktemp("state")
    told = SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(state))
        get_settings.cache_clear()
        publish_history()
        dbt(state, "build")
        told.first = rows_by_table()
        dbt(state, "run")
        told.again = rows_by_table()
        told.files_before = {table: files_by_partition(table) for table in TABLES}
        publish_late_rows()
        hourly = [name for name in TABLES if name.split(".")[1] in HOURLY]
        with unreadable_quiet_day(["bronze.generations", *hourly]):
            dbt(state, "build", "--exclude-resource-type", "unit_test")
        told.late = rows_by_table()
        told.files_after = {table: files_by_partition(table) for table in TABLES}
        dbt(state, "run", "--full-refresh")
        told.whole = rows_by_table()
        yield told
    get_settings.cache_clear()
    shutil.rmtree(state)


@pytest.mark.parametrize("table", TABLES)
def test_build_twice_leaves_the_same_rows(story, table):
    assert story.first[table]
    assert story.again[table] == story.first[table]


@pytest.mark.parametrize("table", TABLES)
def test_incremental_build_equals_a_whole_rebuild(story, table):
    assert story.late[table] == story.whole[table]


@pytest.mark.parametrize("table", TABLES)
def test_the_gate_knows_each_column(story, table):
    """A column without rules could change its type, or vanish, unnoticed; not so `_is_deleted`."""
    assert story.first[table]
    columns = [field.name for field in open_table(table).schema().fields]
    known = rule_book(table.removeprefix("dev_")).types
    assert [name for name in columns if name not in known and name != "_is_deleted"] == []


@pytest.mark.parametrize("model", HOURLY)
def test_late_update_rewrites_its_own_hours_only(story, model):
    table = next(name for name in TABLES if name.endswith(f".{model}"))
    before, after = story.files_before[table], story.files_after[table]
    changed = {
        partition for partition in before | after if before.get(partition) != after.get(partition)
    }
    assert changed == {f"{PARTITION}={hour_label(hour)}" for hour in LATE_HOURS}


def test_late_version_wins_and_an_overtaken_one_changes_nothing(story):
    newest = {row[0]: row for row in story.late["dev_gold.fct_generations"]}
    label = hour_label(LATE_HOURS[0])
    assert len(newest) == len(HOURS) * 6
    assert "succeeded" in newest[f"g-{label}-5"]
    assert "filtered" in newest[f"g-{label}-0"]


def test_percentiles_interpolate_over_successes(story):
    row = next(
        row
        for row in story.first["dev_gold.agg_provider_hourly"]
        if row[:2] == ("acme", "m1") and row[-1] == hour_label(HOURS[1])
    )
    latencies = [100.5 * number for number in (1, 3)]  # the fifth failed
    assert row[7:10] == pytest.approx(np.quantile(latencies, [0.5, 0.95, 0.99]), rel=1e-12)


def test_idle_provider_keeps_its_availability(story):
    rows = story.first["dev_gold.agg_provider_hourly"]
    idle = [(*row[1:3], row[16]) for row in rows if row[0] == "idle"]
    assert idle == [("unknown", 0, pytest.approx(5 / 6))] * len(HOURS)


def test_daily_costs_are_exact(story):
    total = sum(row[9] for row in story.first["dev_gold.agg_usage_daily"] if row[9] is not None)
    assert total == Decimal("0.000000001") * sum(range(1, 7)) * len(HOURS)
