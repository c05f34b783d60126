"""A model's marks cover only what it has read, whatever dbt's flags left out."""

from __future__ import annotations

import pytest
import yaml

from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.delta.lineage import consumed_mark, identity_of, is_partial
from include.chimera.lake.delta.tables import open_table

pytestmark = pytest.mark.integration

HOURS = ("20260101T05", "20260101T06")
SOURCES = """
sources:
  - name: raw
    tables:
      - name: events
        config: {event_time: seen_at}
snapshots:
  - name: history
    relation: source('raw', 'events')
    config: {unique_key: id, strategy: check, check_cols: [v]}
"""
MODELS = {
    "plain": "{{ config(materialized='table') }} select * from {{ source('raw', 'events') }}",
    "hourly": """{{ config(materialized='incremental', incremental_strategy='replace_window',
                           partition_by='_window_hour') }}
        select * from {{ source('raw', 'events') }}
        {% if is_incremental() %} where {{ touched('_window_hour') }} {% endif %}""",
    "added": """{{ config(materialized='incremental', incremental_strategy='append') }}
        select * from {{ source('raw', 'events') }}
        {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}""",
    "merged": """{{ config(materialized='incremental', incremental_strategy='merge',
                           unique_key='id') }}
        select * from {{ ref('seen') }}
        {% if is_incremental() %} where id > (select max(id) from {{ this }}) {% endif %}""",
    "seen": "{{ config(materialized='view') }} select * from {{ source('raw', 'events') }}",
}
BLIND = "{% macro load_cached_relation(relation) %}{{ return(none) }}{% endmacro %}"
TABLES = ("plain", "hourly", "added", "merged", "history")
COUNTS = "select " + ", ".join(f"(select count(*) from dev.{name})" for name in (*TABLES, "seen"))


@pytest.fixture
def models(project, store):
    """Write the models, and return what adds rows to their source."""
    project.write("models/small.yml", SOURCES)
    for name, text in MODELS.items():
        project.write(f"models/{name}.sql", text)

    def add(start: int, end: int, hour: str) -> None:
        query = (
            "select i as id, 1 as v, '2020-01-01'::timestamp + to_days(i) as seen_at, "
            f"'{hour}' as _window_hour from range({start}, {end}) r(i)"
        )
        store("raw.events", query, Rewrite("append"), partition_by=("_window_hour",))

    add(0, 4, HOURS[0])
    return add


PARTS = {
    "empty": ("--empty",),
    "sample": ("--sample", "{'start': '2020-01-01', 'end': '2020-01-03'}"),
    "empty full refresh": ("--empty", "--full-refresh"),
}
LONG = pytest.mark.long
EACH_PART = ["sample", *(pytest.param(part, marks=LONG) for part in PARTS if part != "sample")]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("part", EACH_PART)
def test_what_a_partial_build_left_is_made_whole_by_the_next_one(project, rows, part):
    """On a new lake; the few rows are never mistaken for all rows."""
    project.dbt("build", *PARTS[part])
    assert all(is_partial(open_table(f"dev.{name}")) for name in TABLES)
    project.dbt("build", *PARTS[part])
    project.dbt("build")
    assert rows(COUNTS) == [(4,) * 6]
    assert not any(is_partial(open_table(f"dev.{name}")) for name in TABLES)


@pytest.mark.parametrize("part", EACH_PART)
def test_a_partial_build_changes_nothing_that_is_whole(project, models, rows, part):
    """Neither rows nor marks: the next build adds exactly what came meanwhile."""
    project.dbt("build")
    models(4, 6, HOURS[1])
    versions = [open_table(f"dev.{name}").version() for name in TABLES]
    told = project.dbt("build", *PARTS[part])
    assert "stays as it is" in told
    assert rows(COUNTS) == [(4, 4, 4, 4, 4, 6)]
    assert [open_table(f"dev.{name}").version() for name in TABLES] == versions
    project.dbt("build")
    assert rows(COUNTS) == [(6,) * 6]


@pytest.mark.usefixtures("models")
def test_a_whole_replacement_needs_proof(project, rows):
    """A table that dbt did not find is not replaced; with `--full-refresh` it is."""
    project.dbt("run")
    config = yaml.safe_load((project.folder / "dbt_project.yml").read_text())
    config["macro-paths"].append("blind")
    project.write("dbt_project.yml", yaml.safe_dump(config))
    project.write("blind/load_cached_relation.sql", BLIND)
    told = project.fail("run", "--select", "hourly added merged")
    assert "expected no table yet" in told.lower()
    assert rows("select count(*) from dev.added") == [(4,)]
    project.dbt("run", "--select", "hourly added merged", "--full-refresh")
    assert rows("select count(*) from dev.added") == [(4,)]


STATE = ("--state", "state", "--defer")
OTHERS = ["hourly", "added", "merged"]


@pytest.fixture
def other_target(project, models):  # noqa: ARG001 - the models are there first
    """Build all models in a schema `prod` of the same lake, and keep its manifest as state."""
    profiles = yaml.safe_load((project.folder / "profiles.yml").read_text())
    outputs = profiles["small"]["outputs"]
    outputs["prod"] = {**outputs["dev"], "schema": "prod"}
    project.write("profiles.yml", yaml.safe_dump(profiles))
    project.dbt("run", "--target", "prod")
    project.write("state/manifest.json", (project.folder / "target/manifest.json").read_text())


def marks(name: str) -> set[str]:
    """Return the parents for which a table has marks."""
    table = open_table(name)
    parents = ("raw.events", "dev.plain", "prod.plain")
    known = {parent: open_table(parent) for parent in parents}
    return {
        parent
        for parent, found in known.items()
        if found
        and table.transaction_version(consumed_mark(identity_of(parent, found))) is not None
    }


@pytest.mark.usefixtures("other_target")
def test_rows_of_a_clone_are_no_evidence_of_having_read(project, models, rows):
    """They come from the other table; the next build reads this target's own parents."""
    project.dbt("clone", "--state", "state", "--select", *OTHERS)
    assert marks("dev.hourly") == set()
    models(4, 6, HOURS[1])
    project.dbt("run")
    assert rows(COUNTS.replace("dev.history", "dev.plain")) == [(6,) * 6]


@pytest.mark.usefixtures("other_target")
@pytest.mark.parametrize(
    "more",
    [(), *(pytest.param((flag,), marks=LONG) for flag in ("--favor-state", "--full-refresh"))],
)
def test_what_a_deferred_build_read_is_not_noted_under_other_names(project, models, rows, more):
    project.dbt("run", "--select", *OTHERS, *STATE, *more)
    models(4, 6, HOURS[1])
    project.dbt("run", "--select", "hourly", "added", *STATE, *more)
    assert rows("select (select count(*) from dev.hourly), (select count(*) from dev.added)") == [
        (6, 6)
    ]
    assert marks("dev.hourly") == set()
    project.dbt("run")
    assert rows(COUNTS.replace("dev.history", "dev.plain")) == [(6,) * 6]
    assert marks("dev.hourly") == {"raw.events"}
