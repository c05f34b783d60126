"""Models on Apache Spark's own server and on Sail over an object store, and servers that die."""

from __future__ import annotations

import shutil
import time
from types import SimpleNamespace

import pytest

from include.chimera.errors import BuildOutageError
from include.chimera.lake.staged.manifests import find_manifest
from include.chimera.window import Run, Window
from tests.environments import install
from tests.integration.dbt.small_bronze import HOURS, publish_history, publish_late_rows
from tests.integration.spark.building import Spark
from tests.integration.spark.lakes import assert_same, duckdb_builds, lake_at, rows_of_lake
from tests.integration.spark.servers import apache_spark, executors, sail

pytestmark = [pytest.mark.integration, pytest.mark.long]

SPARK = "4.1.4"
MODEL, TABLE = "stg_app__generations", "silver.stg_app__generations"
FIRST, LATE = (Run(f"scheduled__{name}", Window.of_hour(HOURS[-1])) for name in ("first", "late"))


@pytest.fixture(scope="module")
def spark_home(tmp_path_factory):
    """Return the home of an Apache Spark from its wheel, beside the client's own packages."""
    if shutil.which("java") is None:
        pytest.skip("no java")
    folder = tmp_path_factory.mktemp("apache")
    install("--target", str(folder), f"pyspark=={SPARK}")
    return folder / "pyspark"


@pytest.fixture(scope="module", params=["apache", "sail in a bucket"])
def story(request, parsed, tmp_path_factory):
    """Build a lake from nothing, after late rows, and whole again, by Spark and by DuckDB."""
    folder = tmp_path_factory.mktemp("story")
    if request.param == "apache":
        leads = {"CHIMERA_STATE_DIR": str(folder / "state")}
        running = apache_spark(folder, request.getfixturevalue("spark_home"))
    else:
        store = request.getfixturevalue("object_store")
        leads = {"CHIMERA_STATE_DIR": str(folder / "state"), **store.new_lake()}
        running = sail(folder, store.variables)
    theirs = {"CHIMERA_STATE_DIR": str(folder / "duckdb")}
    told = SimpleNamespace(is_exact=request.param == "apache", ours={}, theirs={})
    with running as server:
        spark = Spark(server.remote, parsed, folder, leads)
        for step, run, options in (("first", FIRST, {}), ("late", LATE, {}),
                                   ("whole", LATE, {"full_refresh": True})):  # fmt: skip
            for variables in (leads, theirs):
                with lake_at(variables):
                    {"first": publish_history, "late": publish_late_rows}.get(step, tuple)()
            with lake_at(leads):
                spark.publish(run=run, **options)
            duckdb_builds(theirs, folder, *(["--full-refresh"] if options else []))
            told.ours[step], told.theirs[step] = rows_of_lake(leads), rows_of_lake(theirs)
    duckdb_builds(leads, folder, "--full-refresh")
    told.back = rows_of_lake(leads)
    return told


@pytest.mark.parametrize("step", ["first", "late", "whole"])
def test_each_model_has_duckdbs_rows(story, step):
    """Apache Spark's quantiles are DuckDB's to the last bit."""
    assert len(story.ours[step]) == 16
    assert_same(story.ours[step], story.theirs[step])
    assert not story.is_exact or story.ours[step] == story.theirs[step]


def test_back_on_duckdb_no_row_is_another(story):
    assert_same(story.back, story.ours["whole"])


def test_a_killed_executor_changes_nothing(spark_home, parsed, tmp_path):
    leads = {"CHIMERA_STATE_DIR": str(tmp_path / "state")}
    theirs = {"CHIMERA_STATE_DIR": str(tmp_path / "duckdb")}
    for variables in (leads, theirs):
        with lake_at(variables):
            publish_history()
    with lake_at(leads), apache_spark(tmp_path, spark_home) as server:
        building = Spark(server.remote, parsed, tmp_path, leads).start([MODEL], FIRST)
        while not executors(server):
            time.sleep(0.05)
        executors(server)[0].kill()
        building.wait()
    duckdb_builds(theirs, tmp_path, "--select", MODEL)
    assert rows_of_lake(leads)[TABLE] == rows_of_lake(theirs)[TABLE]


def test_a_killed_server_ends_in_a_retry_with_right_tables(parsed, tmp_path):
    """The killed attempt stages nothing, and its files are no table's."""
    leads = {"CHIMERA_STATE_DIR": str(tmp_path / "state")}
    theirs = {"CHIMERA_STATE_DIR": str(tmp_path / "duckdb")}
    for variables in (leads, theirs):
        with lake_at(variables):
            publish_history()
    with lake_at(leads):
        with sail(tmp_path, {}) as server:
            spark = Spark(server.remote, parsed, tmp_path, leads)
            building = spark.start([MODEL], FIRST)
            folder = tmp_path / "state" / "lake" / "silver" / MODEL
            while not list(folder.glob("_no_table")):  # the session is there, dbt comes next
                time.sleep(0.01)
            server.kill()
            with pytest.raises(BuildOutageError, match="of the Spark server"):
                building.wait()
        assert find_manifest(FIRST, TABLE) is None
        port = int(server.remote.rpartition(":")[2])
        with sail(tmp_path, {}, port):
            spark.publish(MODEL, run=FIRST)
    duckdb_builds(theirs, tmp_path, "--select", MODEL)
    assert_same({TABLE: rows_of_lake(leads)[TABLE]}, {TABLE: rows_of_lake(theirs)[TABLE]})
