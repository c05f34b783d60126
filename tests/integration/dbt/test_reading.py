"""What docs/ says of reading the lake is what a reader sees, on a small lake of two hours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from include.chimera.lake.delta.columns import comments_of
from include.chimera.lake.delta.tables import lake_tables, open_table
from include.chimera.lake.ops_tables.consistent_snapshots import (
    made_of_others,
    parents_of,
    published_snapshot,
)
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.paths import PROJECT
from include.chimera.settings import get_settings
from scripts.described_tables import LAYERS, tables
from scripts.run_examples import RESULTS, fill_lake, run_examples
from tests.environments import environment_of

pytestmark = pytest.mark.integration

PAGE = (PROJECT / "docs" / "read.md").read_text()
BLOCKS = [
    (f"{title} {number}", language, code)
    for title, section in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for number, (language, code) in enumerate(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))
]
PROGRAMS = {name: code for name, language, code in BLOCKS if language == "python"}
QUERIES = {name: code for name, language, code in BLOCKS if language == "sql"}
NOT_RUN = {"Spark 0"}  # its jars come from Maven
SAIL = "Spark 1"
TABLES = {table.name: table for layer in LAYERS for table in tables(layer)}
# In a process of its own environment: datacontract's packages are none of the project's.
CONTRACT_PACKAGES = [
    "datacontract-cli[duckdb]==1.2.8", "duckdb==1.5.5", "duckdb-extension-delta==1.5.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Fill a lake below `.chimera` of a folder, as `make run` does below the project's root."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(root / ".chimera"))
        get_settings.cache_clear()
        fill_lake(root / ".chimera")
        yield root / ".chimera"
    get_settings.cache_clear()


def test_the_dictionarys_results_are_what_its_queries_find(state):
    """Else: `python -m scripts.run_examples`, then `make docs`."""
    assert json.loads(RESULTS.read_text()) == run_examples(f"{state}/lake/views.sql")


def test_each_silver_and_gold_table_has_an_example(state):
    del state
    assert {name for name in TABLES if name.startswith(("silver.", "gold."))} == set(
        json.loads(RESULTS.read_text())
    )


def test_each_table_says_what_it_holds(state):
    """The dictionary's texts are the comments of the Delta tables, from the first version on."""
    del state
    found = {str(name): open_table(name) for name in lake_tables()}
    assert {"bronze.generations", "silver.stg_app__models", "gold.dim_models"} < set(found)
    for name, table in found.items():
        told = TABLES[name]
        assert " ".join(table.metadata().description.split()) == told.text
        comments = {
            key: " ".join(text.split()) for key, text in comments_of(table.schema()).items()
        }
        assert comments == {column.name: column.text for column in told.columns}


def test_an_hour_without_news_writes_no_comment_again(state):
    """Comments come with the version that first has them."""
    del state
    before = {str(name): open_table(name).version() for name in lake_tables()}
    assert before["bronze.generations"] == 1
    assert before["gold.fct_generations"] == 0


def test_each_table_was_made_of_those_that_are_pinned_beside_it(state):
    """Else no run of the real models would ever have a snapshot."""
    del state
    versions = published_snapshot().versions
    assert made_of_others(versions) == []
    assert parents_of("gold.agg_usage_daily", versions)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return an empty home: no extension of DuckDB is there before the first recipe."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - NOT_RUN - {SAIL}))
def test_a_recipe_runs_as_it_stands_on_the_page(state, home, name):
    environment = {"HOME": str(home), "PATH": os.defpath}
    code = PROGRAMS[name]
    if name != "DuckDB 0":  # which installs the extension, once
        code = _installing() + code
    command = [sys.executable, "-c", code]
    done = subprocess.run(  # noqa: S603 - our own page
        command, cwd=state.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or (state.parent / "export" / "agg_usage_daily.csv").exists()


@pytest.mark.long
def test_spark_connects_recipe_runs_as_it_stands_on_the_page(state, tmp_path):
    """With the packages that the page names, which are none of the project's."""
    (named,) = re.findall(r"`pip install (pysail[^`]*)`", PAGE)
    programs = environment_of(tmp_path, *named.split())
    command = [str(programs / "python"), "-c", PROGRAMS[SAIL]]
    done = subprocess.run(command, cwd=state.parent, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    with connect() as connection:
        connection.execute((state / "lake" / "views.sql").read_text().replace("load delta;", ""))
        costs = connection.execute(
            "select provider_id, sum(cost_usd) from gold.agg_usage_daily group by all"
        ).fetchall()
    shown = re.findall(r"^\| *([\w-]+)\| *([\d.]+|NULL)\|$", done.stdout, re.MULTILINE)
    assert dict(shown) == {name: "NULL" if cost is None else str(cost) for name, cost in costs}


def _installing() -> str:
    return PROGRAMS["DuckDB 0"].partition("connection.execute")[0]


@pytest.mark.parametrize("name", QUERIES)
def test_a_question_is_answered(state, name, monkeypatch):
    """The example's lake has no runs, so what they read is asked there without an answer."""
    monkeypatch.chdir(state.parent)
    with connect() as connection:
        views = (state / "lake" / "views.sql").read_text().replace("load delta;", "")
        connection.execute(views)
        found = connection.execute(QUERIES[name]).fetchall()
        assert found or "ops/window_ledger" in QUERIES[name]


def test_blocks_that_are_not_run_are_named(state):
    del state
    assert set(PROGRAMS) > NOT_RUN
    assert len(QUERIES) == 4


@pytest.fixture(scope="module")
def datacontract(tmp_path_factory):
    """Return the folder of the public command."""
    return environment_of(tmp_path_factory.mktemp("datacontract"), *CONTRACT_PACKAGES)


@pytest.mark.long
@pytest.mark.parametrize("layer", LAYERS)
def test_the_public_command_finds_each_contract_kept(state, home, datacontract, layer):
    """It lints the file, then opens each table and looks at columns, types, nulls and keys."""
    source = PROJECT / "docs" / "contracts" / f"{layer}.odcs.yaml"
    environment = {"HOME": str(home), "PATH": os.defpath}
    for command in (
        [str(datacontract / "python"), "-c", _installing()],
        [str(datacontract / "datacontract"), "lint", str(source)],
        [str(datacontract / "datacontract"), "test", str(source)],
    ):
        done = subprocess.run(  # noqa: S603 - our own files
            command, cwd=state.parent, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
