"""Two lakes of the same rows, one for each engine, and how they are compared."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import TypeAdapter

from include.chimera.lake.delta.tables import lake_tables
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of
from include.chimera.paths import DBT_PROJECT
from include.chimera.window import Run
from tests.integration.object_store import forget_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Rows = dict[str, list[dict]]
QUANTILES = ("p50_", "p95_", "p99_")


@contextmanager
def lake_at(variables: Mapping[str, str]) -> Iterator[None]:
    """Make this process's lake the one that the variables lead to."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        forget_settings()
        yield
    forget_settings()


def duckdb_builds(
    variables: Mapping[str, str], home: Path, *arguments: str, run: Run | None = None
) -> bool:
    """Build models on DuckDB, which commits at once, or stages for the gates of a run."""
    command = [str(Path(sys.executable).with_name("dbt")), "build", "--target", "prod"]
    places = ["--target-path", str(home / "target"), "--log-path", str(home / "logs")]
    text = {"CHIMERA_RUN": TypeAdapter(Run).dump_json(run).decode()} if run else {}
    left_out = ["--exclude", "resource_type:unit_test", "tag:relationships"]
    done = subprocess.run(  # noqa: S603 - our own command line
        [*command, "--quiet", *arguments, *left_out, *places],
        cwd=DBT_PROJECT,
        env={"PATH": os.defpath, "HOME": str(home), "DO_NOT_TRACK": "1", **variables, **text},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run or done.returncode == 0, done.stdout
    return done.returncode == 0


def copy_lake(state: Path, target: Path) -> Path:
    """Copy all state, a lake in a folder among it."""
    shutil.copytree(state, target)
    return target


def rows_of_lake(variables: Mapping[str, str]) -> Rows:
    """Return the rows of all silver and gold tables, sorted, with their columns and types."""
    with lake_at(variables), connect() as connection:
        return {
            str(table): _rows(connection, folder_of(table))
            for table in lake_tables()
            if table.schema in {"silver", "gold"}
        }


def _rows(connection, folder: str) -> list[dict]:
    found = connection.sql(f"select * from delta_scan('{folder}')")
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    kinds = dict(zip(found.columns, map(str, found.types), strict=True))
    return [kinds, *sorted(rows, key=lambda row: repr(_exact(row)))]


def _exact(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.startswith(QUANTILES)}


def assert_same(ours: Rows, theirs: Rows) -> None:
    """Compare two lakes row by row: exactly, quantiles to 1e-9 of themselves."""
    assert ours.keys() == theirs.keys()
    for table, rows in ours.items():
        others = theirs[table]
        assert len(rows) == len(others), table
        for row, other in zip(rows, others, strict=True):
            assert _exact(row) == _exact(other), table
            for name in row.keys() - _exact(row).keys():
                one, two = row[name], other[name]
                is_same = one == two or math.isclose(one, two, rel_tol=1e-9)
                assert is_same, (table, name, one, two)
