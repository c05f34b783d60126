"""Models on Sail, a Spark Connect server: the same rows, gates and refusals as on DuckDB."""

from __future__ import annotations

import shutil
from datetime import timedelta
from types import SimpleNamespace

import pytest

from include.chimera.errors import (
    BuildOutageError,
    GateFailedError,
    ModelError,
    ModelRowsError,
)
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.manifests import find_manifest
from include.chimera.paths import DBT_PROJECT
from include.chimera.window import Run, Window
from tests.integration.dbt.small_bronze import (
    HOURS,
    LATE_HOURS,
    generation,
    publish,
    publish_history,
    publish_late_rows,
)
from tests.integration.quality.gating import gated
from tests.integration.spark.building import Parsed, Spark
from tests.integration.spark.lakes import (
    assert_same,
    copy_lake,
    duckdb_builds,
    lake_at,
    rows_of_lake,
)

pytestmark = pytest.mark.integration

MODEL, TABLE = "stg_app__generations", "silver.stg_app__generations"
RUN = Run("scheduled__late", Window.of_hour(HOURS[-1]))


def at(state) -> dict[str, str]:
    return {"CHIMERA_STATE_DIR": str(state)}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Return the state of a lake that DuckDB has built."""
    state = tmp_path_factory.mktemp("history") / "state"
    with lake_at(at(state)):
        publish_history()
    duckdb_builds(at(state), tmp_path_factory.mktemp("home"))
    return state


@pytest.fixture(scope="module")
def late(history, parsed, sail_remote, tmp_path_factory):
    """Return the lake after late rows, built on by each engine."""
    folder = tmp_path_factory.mktemp("late")
    ours, theirs = (copy_lake(history, folder / name) for name in ("spark", "duckdb"))
    for state in (ours, theirs):
        with lake_at(at(state)):
            publish_late_rows()
    spark = Spark(sail_remote, parsed, folder, at(ours))
    with lake_at(at(ours)):
        spark.publish(run=RUN)
    duckdb_builds(at(theirs), folder)
    return SimpleNamespace(ours=ours, theirs=theirs, spark=spark)


@pytest.fixture
def lake(history, parsed, sail_remote, tmp_path):
    """Return a server that builds on a lake of the test's own, which is this process's too."""
    state = copy_lake(history, tmp_path / "state")
    with lake_at(at(state)):
        yield Spark(sail_remote, parsed, tmp_path, at(state))


def test_each_model_has_duckdbs_rows_after_late_ones(late):
    """All 16, on tables that DuckDB built before: the engine of a lake can change at any time."""
    ours = rows_of_lake(at(late.ours))
    assert len(ours) == 16
    assert_same(ours, rows_of_lake(at(late.theirs)))


def test_only_the_touched_hours_are_replaced(late, history):
    def partitions(state):
        with lake_at(at(state)):
            return {path.rpartition("/")[0].rpartition("=")[2]: path
                    for path in open_table(TABLE).file_uris()}  # fmt: skip

    before, after = partitions(history), partitions(late.ours)
    changed = {hour for hour, path in after.items()
               if path.rpartition("/")[2] != before[hour].rpartition("/")[2]}  # fmt: skip
    assert changed == {f"{hour:%Y%m%dT%H}" for hour in (*LATE_HOURS, HOURS[-1])}


def test_a_bad_row_is_refused_by_the_same_rule(lake, tmp_path):
    """The gate reads the staged files, whoever wrote them."""
    moment = HOURS[-1] + timedelta(minutes=7)
    publish("bad", "bronze.generations", [generation(9, moment, latency_ms=-1.0)])
    refused = {}
    for engine in ("spark", "duckdb"):
        run = Run(f"bad-{engine}", RUN.window)
        if engine == "spark":
            lake.build(MODEL, run=run)
        else:
            assert duckdb_builds(lake.variables, tmp_path, "--select", MODEL, run=run)
        version = open_table(TABLE).version()
        with gated(run, TABLE) as (gate, verdict):
            refused[engine] = (verdict.failed_rules, verdict.rows, verdict.rows_refused)
            with pytest.raises(GateFailedError):
                gate.publish()
        assert open_table(TABLE).version() == version
    assert refused["spark"] == refused["duckdb"]
    assert refused["spark"][0]


def test_a_failed_data_test_is_told_without_a_value(lake):
    moment = HOURS[-1] + timedelta(minutes=7)
    publish("bad", "bronze.generations", [generation(9, moment, status="unheard-of")])
    with pytest.raises(ModelRowsError, match="rows that pass the test; came 1 that don't") as told:
        lake.build(MODEL, run=RUN)
    assert "unheard-of" not in str(told.value)


def test_a_server_that_is_not_there_is_waited_for_by_the_tasks_retry(lake, parsed, tmp_path):
    away = Spark("sc://127.0.0.1:9", parsed, tmp_path, lake.variables)
    with pytest.raises(BuildOutageError, match="of the Spark server"):
        away.build(MODEL, run=RUN)
    assert find_manifest(RUN, TABLE) is None


MODELS = {
    "a_view": "{{ config(materialized='view') }} select 1 as a",
    "a_merge": "{{ config(materialized='incremental', incremental_strategy='merge', "
    "unique_key='a', partition_by=none) }} select 1 as a",
    "a_hook": "{{ config(post_hook='select 1') }} select 1 as a",
    "a_typo": "select nowhere from {{ ref('stg_app__models') }}",
}
SAID = {
    "a_view": "on Spark; came view.",
    "a_merge": "on Spark; came merge.",
    "a_hook": "came one with hooks.",
    "a_typo": "came AnalysisException",
    "model.chimera.a_python_model": "only supports languages",
    "snapshot.chimera.a_snapshot": "on Spark; came snapshot.",
    "seed.chimera.a_seed": "on Spark; came seed.",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Return a project that also has what is not there on Spark."""
    project = tmp_path_factory.mktemp("refused") / "dbt"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target"))
    more = project / "models" / "marts" / "more"
    more.mkdir()
    for name, text in MODELS.items():
        (more / f"{name}.sql").write_text("{{ config(contract={'enforced': false}) }}" + text)
    code = "def model(dbt, session):\n    return dbt.ref('stg_app__models')\n"
    (more / "a_python_model.py").write_text(code)
    (more / "a.yml").write_text(
        "models:\n  - name: a_python_model\n    config: {contract: {enforced: false}}\n"
        "snapshots:\n  - name: a_snapshot\n    relation: ref('stg_app__models')\n"
        "    config: {unique_key: model_id, strategy: timestamp, updated_at: updated_at,"
        " schema: gold}\n"
    )
    (project / "seeds").mkdir()
    (project / "seeds" / "a_seed.csv").write_text("a\n1\n")
    return Parsed.into(tmp_path_factory.mktemp("parsed-refused"), project)


def test_what_is_not_there_on_spark_is_refused_by_its_name(lake, refused, tmp_path):
    building = Spark(lake.remote, refused, tmp_path, lake.variables).start(SAID, RUN, publish=False)
    failures = building.failures()
    for name, said in SAID.items():
        assert isinstance(failures[name], ModelError), name
        assert said in f"{failures[name]}\n{building.said}", name
    assert not any(find_manifest(RUN, f"gold.{name.split('.')[-1]}") for name in SAID)
