"""A bad table stops only its readers; dbt's output and files contain no value of a row."""

from __future__ import annotations

import pytest
import yaml

from include.chimera.lake.dbt_plugin.materializations import Order
from include.chimera.lake.dbt_plugin.views import View
from include.chimera.lake.delta.tables import open_table
from include.chimera.relation import Relation
from tests.integration.dbt.conftest import lake_session, make_project
from tests.integration.lake.store.damages import entry
from tests.integration.object_store import forget_settings

pytestmark = pytest.mark.integration

SOURCES = "sources: [{name: raw, tables: [{name: orders}, {name: customers}]}]"
BUILT = {
    "others": "-- no orders here, 'orders' neither\n"
    "select id, 'orders' as orders from {{ source('raw', 'customers') }}",
    "cte": "with orders as (select 1 as id) select * from orders",
}
TOLD = {
    "by_source": "select * from {{ source('raw', 'orders') }}",
    "by_name": "select count(*) as n from RAW.orders",
    "by_view": "select * from raw.seen",
    "by_join": "select c.id from {{ source('raw', 'customers') }} as c "
    "where id in (select id from {{ source('raw', 'orders') }})",
    "by_hook": "{{ config(pre_hook='create or replace temp table seen as from raw.orders') }} "
    "select 1 as id",
    "by_change": '{{ config(post_hook="delete from raw.orders where id = 1") }} select 1 as id',
    "by_query": "{{ config(materialized='table') }} {% if execute %}"
    "{% do run_query('select max(id) from raw.orders') %}{% endif %} select 1 as id",
}


def test_a_damaged_data_file_is_told_of_the_table_that_has_it(project, store):
    """Not reported as a bad value in the model that reads the table."""
    project.write("models/sources.yml", SOURCES)
    query = "{{ config(materialized='table') }} select * from {{ source('raw', 'orders') }}"
    project.write("models/child.sql", query)
    store("raw.orders", "select 1 as id")
    (file,) = (project.folder / "lake" / "raw" / "orders").glob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(b"no Parquet")
    said = project.fail("run")
    file.write_bytes(whole)
    assert "came a damaged data file: it is no whole Parquet file" in said
    assert "a file of raw.orders" in said


def test_a_table_with_partitions_by_no_column_is_repaired_by_a_full_refresh(project, rows):
    """A wrong column name in the log is damage, not an outage of the storage."""
    query = "{{ config(materialized='incremental', partition_by='id') }} select 1 as id, 2 as v"
    project.write("models/p.sql", query)
    project.dbt("run")
    log = entry(project.folder / "lake" / "dev" / "p", 0)
    log.write_text(
        log.read_text().replace('"partitionColumns":["id"]', '"partitionColumns":["ID"]')
    )
    assert "none of its columns" in project.fail("run")
    project.dbt("run", "--full-refresh")
    assert rows("select id, v from dev.p") == [(1, 2)]


def test_a_damaged_log_stops_only_what_reads_its_table(project, store, versions):
    """Another model may name it in a comment, a text or a query's own table."""
    versions.are_checked = False
    project.write("models/sources.yml", SOURCES)
    for name, text in (BUILT | TOLD).items():
        project.write(
            f"models/{name}.sql",
            "{{ config(materialized='table') }} " * ("config" not in text) + text,
        )
    store("raw.orders", "select 1 as id")
    store("raw.customers", "select 1 as id")
    with lake_session() as (session, _):
        session.save_view(Relation("raw", "seen"), View("select id from raw.orders"))
    log = project.folder / "lake" / "raw" / "orders"
    entry(log, 0).write_text("{ is no entry")
    output = project.fail("build")
    for name in BUILT:
        assert open_table(f"dev.{name}") is not None, output
    for name in TOLD:
        said = output.partition(f"model {name} (")[2].partition("Next: ")[0]
        assert "a damaged log: an entry is no JSON" in said, (name, output)
        assert "raw.orders" in said, (name, output)
    assert "raw.orders is left out" in project.dbt("docs", "generate", "--no-compile")


CANARY = "canary-4711\x1b[2J@example.org"
RAW = "{{ source('raw', 'orders') }}"
# A file of dbt's by the road that its cast takes to DuckDB, and what is told of it.
ROADS = {
    "model.model": (f"select cast(text as integer) as id from {RAW}",
                    "VARCHAR that is no INTEGER in column text"),
    "model.computed": (f"select id, cast(text || 'x' as date) as born from {RAW}",
                       "VARCHAR that is no DATE, for column born"),
    "model.merged": (("{{ config(materialized='incremental', unique_key='id') }} "
                     f"select id, cast(text as integer) as n from {RAW}"),
                     "VARCHAR that is no INTEGER in column text"),
    "model.contract": (("{{ config(contract={'enforced': true}) }} "
                       f"select cast(text as integer) as id from {RAW}"),
                       "VARCHAR that is no INTEGER in column text"),
    "model.below": ("select sum(n) as n from {{ ref('view') }}",
                    "VARCHAR that is no INTEGER in column text"),
    "model.unique": (("{{ config(pre_hook=['create temp table k (t text primary key)', "
                     "'insert into k select text from raw.orders, range(2)']) }} select 1 as id"),
                     "PRIMARY KEY or UNIQUE"),
    "model.refused": (f"select error(text) as id from {RAW}", "a function refused a value"),
    "model.hook": (("{{ config(post_hook='create temp table n as select cast(text as int) as n "
                   "from raw.orders') }} select 1 as id"),
                   "VARCHAR that is no INTEGER in column text"),
    "model.query": (("{% if execute %}{% do run_query('select cast(text as int) from raw.orders')"
                     " %}{% endif %} select 1 as id"), "VARCHAR that is no INTEGER in column text"),
    "test.in_test": ("select * from raw.orders where cast(text as integer) > 0",
                     "VARCHAR that is no INTEGER in column text"),
    "snapshot.history": (
        ("{% snapshot history %}{{ config(unique_key='id', strategy='check', check_cols='all') }} "
        f"select id, cast(text as int) as n from {RAW}"
        "{% endsnapshot %}"),
        "VARCHAR that is no INTEGER in column text",
    ),
    "seed.totals": (f"id,total\n1,{CANARY}\n", "VARCHAR that is no INTEGER in column total"),
}  # fmt: skip
FOLDERS = {"model": "models", "test": "tests", "snapshot": "snapshots", "seed": "seeds"}
MORE = {
    "models/view.sql": "{{ config(materialized='view') }} "
    f"select cast(text as integer) as n from {RAW}",
    "models/more.yml": "models: [{name: contract, columns: [{name: id, data_type: integer}]}]",
    "macros/peek.sql": "{% macro peek() %}{% do run_query('select cast(text as int) from "
    "raw.orders') %}{% endmacro %}",
    "models/sources.yml": SOURCES,
}
COMMANDS = {
    # DuckDB runs this query while its rows are fetched, and then has another class for the error.
    "show": ("show", "--inline", ("select cast(case when i = 999999 then (select any_value(text) "
             "from raw.orders) else '1' end as int) as n from range(1000000) as r(i)"),
             "--limit", "-1"),
    "operation": ("run-operation", "peek"),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Build everything on rows with the canary; return dbt's output, and its folder."""
    folder = tmp_path_factory.mktemp("casts")
    project = make_project(folder)
    config = yaml.safe_load((folder / "dbt_project.yml").read_text())
    config["models"] = {"small": {"+materialized": "table"}}
    config["macro-paths"].append("macros")
    config["seeds"] = {"small": {"totals": {"+column_types": {"total": "integer"}}}}
    project.write("dbt_project.yml", yaml.safe_dump(config))
    for road, (text, _) in ROADS.items():
        kind, name = road.split(".")
        project.write(f"{FOLDERS[kind]}/{name}.{'csv' if kind == 'seed' else 'sql'}", text)
    for path, text in MORE.items():
        project.write(path, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIMERA_STATE_DIR", str(folder))
        forget_settings()
        with lake_session() as (session, connection):
            connection.execute("create temp table batch as select 1 as id, ? as text", [CANARY])
            session.write(connection, Order(Relation("raw", "orders"), "batch", "all"))
    forget_settings()
    told = {"build": project.fail("build")}
    told |= {name: project.fail(*command) for name, command in COMMANDS.items()}
    while "Interrupted" in told["show"]:  # what DuckDB says instead, 1 time in 100
        assert "Run it again" in told["show"]
        told["show"] = project.fail(*COMMANDS["show"])
    return told, folder


@pytest.mark.parametrize("road", ROADS)
def test_a_failed_cast_names_column_and_types(said, road):
    """On each way that dbt runs SQL in DuckDB."""
    kind, name = road.split(".")
    text = said[0]["build"].partition(f"{kind} {name} (")[2].partition("Next: ")[0]
    assert ROADS[road][1] in text, said[0]["build"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_failed_cast_of_a_command_names_its_types(said, command):
    assert "VARCHAR that is no INTEGER" in said[0][command]


def test_no_value_stands_on_dbts_console_or_in_what_it_writes(said):
    """Nor a value's control characters; rows stay in tables, seeds in their files."""
    told, folder = said
    written = [*folder.glob("logs-*/*"), *folder.glob("target/*.json")]
    assert len(written) > len(told)
    for text in (*told.values(), *(file.read_text() for file in written)):
        assert "canary" not in text
        assert "\x1b" not in text
        assert "\\u001b[2J" not in text
