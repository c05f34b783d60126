"""Statements in hooks change the lake's tables without losing changes."""

import pytest
import yaml

from include.chimera.lake.delta.lineage import is_partial
from include.chimera.lake.delta.tables import open_table

pytestmark = pytest.mark.integration
SOURCES = "sources: [{name: raw, tables: [{name: events, config: {event_time: seen_at}}]}]\n"
EVENTS = "select i as v, timestamp '2020-01-01' + to_days(i::int) as seen_at from range(4) r(i)"
PARTS = [("--empty",), ("--sample", "{'start': '2020-01-01', 'end': '2020-01-03'}")]


def model(hook, body="select 1 as id", kind="table"):
    return f"{{{{ config(materialized='{kind}', post_hook=\"{hook}\") }}}} {body}"


def test_what_many_hooks_add_to_one_table_is_all_there(project, store, rows):
    """Threads and processes at once: each statement changes what the one before it left."""
    store("dev.audit", "select 'start' as name", partition_by=())
    for number in range(8):
        text = model("insert into dev.audit select '{{ this.identifier }}'")
        project.write(f"models/m{number}.sql", text)
    halves = ("m0 m1 m2 m3", "m4 m5 m6 m7")
    for command in [project.start("run", "--select", half) for half in halves]:
        assert command.wait().is_done, command.output
    names = [(f"m{number}",) for number in range(8)]
    assert rows("select name from dev.audit order by name") == [*names, ("start",)]


@pytest.mark.parametrize("kind", ["table", "incremental"])
def test_what_a_hook_changes_in_a_partial_table_stays_partial(project, store, rows, kind):
    """The next build makes it whole: a hook read none of the model's parents."""
    project.write("models/small.yml", SOURCES)
    store("raw.events", EVENTS)
    body = """select * from {{ source('raw', 'events') }}
        {% if is_incremental() %} where seen_at > '2020-01-03' {% endif %}"""
    project.write("models/m.sql", model("update {{ this }} set v = v + 1", body, kind))
    project.dbt("run", "--empty")
    assert is_partial(open_table("dev.m"))
    project.dbt("run")
    assert rows("select v from dev.m order by v") == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("part", PARTS)
def test_hooks_of_a_partial_build_change_nothing_that_is_whole(project, store, rows, part):
    project.write("models/small.yml", SOURCES)
    store("raw.events", EVENTS)
    hook = "update {{ this }} set v = v + 1; insert into dev.audit select count(*) from {{ this }}"
    project.write("models/m.sql", model(hook, "select * from {{ source('raw', 'events') }}"))
    store("dev.audit", "select -1::bigint as n")
    project.dbt("run")
    told = project.dbt("run", *part)
    assert "dev.audit was built and checked, and stays as it is" in told
    assert rows("select v from dev.m order by v") == [(1,), (2,), (3,), (4,)]
    assert rows("from dev.audit order by n") == [(-1,), (4,)]


@pytest.mark.parametrize(
    "statement",
    [
        "create table if not exists dev.made (name varchar)",
        'create or replace table \\"dev\\".made as select 1 as id',
        "-- made here\\ncreate view dev.made as select 1 as id",
        "delete from {{ this }}; create table dev.made as select 1 as id",
    ],
)
def test_a_hook_that_makes_a_table_of_no_duration_is_refused(project, rows, statement):
    """It would live in this process's memory, so its rows would be lost although dbt succeeds."""
    project.write("models/m.sql", model(statement))
    told = project.fail("run")
    assert "gone after this process" in told
    assert rows("select id from dev.m") == [(1,)]


def test_a_hook_may_make_what_is_its_processs_own(project, rows):
    hook = "create temp table one as select 1 as a; create or replace table two as from one"
    project.write("models/m.sql", model(hook))
    project.dbt("run")
    assert rows("select id from dev.m") == [(1,)]


def test_a_table_that_a_runs_hook_makes_is_told_to_end_with_the_process(project):
    """dbt runs `on-run-start` without a macro, so only the cursor sees it."""
    config = yaml.safe_load((project.folder / "dbt_project.yml").read_text())
    config["on-run-start"] = ["create table if not exists dev.made (name varchar)"]
    config["on-run-end"] = ["insert into dev.made values ('end')"]
    project.write("dbt_project.yml", yaml.safe_dump(config))
    project.write("models/m.sql", "select 1 as id")
    assert "create table dev.made: it is gone after this process" in project.dbt("run")
