"""Each dbt command sees the lake in a process of its own, in a local folder and in a bucket."""

from __future__ import annotations

import json
from shutil import copytree

import pytest

from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.delta.tables import open_table, table_names
from include.chimera.lake.store.places import folder_of

pytestmark = pytest.mark.integration

PROPERTIES = """
sources:
  - name: raw
    tables:
      - name: events
        loaded_at_field: created_at
        freshness: {error_after: {count: 1, period: hour}}
models:
  - name: facts
    columns: [{name: id, data_tests: [unique, not_null]}]
snapshots:
  - name: history
    relation: ref('totals')
    config: {unique_key: part, strategy: check, check_cols: all}
"""
MODELS = {
    "seen": "{{ config(materialized='view') }} select * from {{ source('raw', 'events') }}",
    "facts": """{{ config(materialized='incremental', unique_key='id', partition_by='part',
                          incremental_strategy='merge') }}
        select id, part, v from {{ ref('seen') }}
        {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}""",
    "totals": """{{ config(materialized='table') }}
        select part, sum(v) as v from {{ ref('facts') }} group by part
        {% if env_var('BREAK', '') %} having error('broken') is null {% endif %}""",
}
TOTALS = "select part, v::integer from dev.totals order by part"


@pytest.fixture
def events(project, store):
    """Write the models and return what adds rows to their source, as another tool would."""
    project.write("models/small.yml", PROPERTIES)
    for name, text in MODELS.items():
        project.write(f"models/{name}.sql", text)

    def add(start: int, end: int) -> None:
        store(
            "raw.events",
            "select i as id, i % 2 as part, 1 as v, now() as created_at "
            f"from range({start}, {end}) r(i)",
            Rewrite("append"),
        )

    add(0, 4)
    return add


@pytest.mark.parametrize("project", ["bucket"], indirect=True)
def test_run_snapshot_test_and_a_second_run_in_processes_of_their_own(project, events, rows):
    project.dbt("run")
    project.dbt("snapshot")
    project.dbt("test")
    events(4, 6)
    project.dbt("run")
    project.dbt("snapshot")
    assert rows("select count(*), count(distinct id) from dev.facts") == [(6, 6)]
    assert rows(TOTALS) == [(0, 3), (1, 3)]
    assert rows("select dbt_valid_to is null as is_current, count(*) from dev.history "
                "group by 1 order by 1") == [(False, 2), (True, 2)]  # fmt: skip


def test_reading_commands_and_single_models_in_processes_of_their_own(project, events, rows):
    project.dbt("build")
    events(4, 6)
    project.dbt("run", "--select", "facts")
    assert rows("select count(*) from dev.facts") == [(6,)]
    assert rows(TOTALS) == [(0, 2), (1, 2)]
    version = open_table("dev.facts").version()
    project.dbt("test", "--select", "facts")
    shown = project.dbt("show", "--inline", "select count(*) as n from {{ ref('facts') }}")
    assert "| 6 |" in shown
    assert "| 6 |" in project.dbt("show", "--inline", "select count(*) as n from dev.facts")
    project.dbt("compile")
    assert (
        "where id > (select max(id)"
        in (project.folder / "target/compiled/small/models/facts.sql").read_text()
    )
    project.dbt("source", "freshness")
    project.dbt("docs", "generate")
    catalog = json.loads((project.folder / "target/catalog.json").read_text())
    kinds = {node["metadata"]["name"]: (node["metadata"]["type"], list(node["columns"]))
             for node in [*catalog["nodes"].values(), *catalog["sources"].values()]}  # fmt: skip
    assert kinds["facts"] == ("BASE TABLE", ["id", "part", "v"])
    assert kinds["seen"] == ("VIEW", ["id", "part", "v", "created_at"])
    assert kinds["events"][0] == "BASE TABLE"
    assert open_table("dev.facts").version() == version


def test_retry_builds_what_failed_and_what_came_after_it(project, events, rows):
    project.dbt("run", "--select", "seen", "facts")
    assert "ERROR=1" in project.fail("build", BREAK="yes")
    events(4, 6)
    project.dbt("retry")
    assert rows(TOTALS) == [(0, 2), (1, 2)]
    assert rows("select count(*) from dev.history") == [(2,)]


def test_empty_lake_is_told_in_four_parts_and_stays_empty(project):
    project.write("models/small.yml", PROPERTIES)
    for name, text in MODELS.items():
        project.write(f"models/{name}.sql", text)
    failed = project.fail("run", "--select", "facts")
    assert "Expected a table or view dev.seen" in failed
    assert "Next: build it first" in failed
    project.fail("show", "--select", "facts")
    project.dbt("ls")
    project.dbt("compile")
    assert table_names() == []


@pytest.mark.long
def test_model_reads_a_lake_of_two_hundred_tables_and_opens_its_own(project, store, rows):
    for number in (7, 11):
        store(f"dev.t{number}", f"select {number} as id")
    for number in range(12, 210):
        copytree(folder_of("dev.t11"), folder_of(f"dev.t{number}"))
    project.write(
        "models/sum.sql", "select a.id + b.id as id from {{ ref('t7') }} as a, dev.t11 as b"
    )
    project.write("models/t7.sql", "select 0 as id")
    project.dbt("run", "--select", "sum")
    assert rows("select id from dev.sum") == [(18,)]
