"""dbt processes that write at once: other models, other hours, the same hour."""

from __future__ import annotations

import pytest

from include.chimera.lake.delta.tables import open_table

pytestmark = pytest.mark.integration

HOURLY = """
{{ config(materialized='incremental', incremental_strategy='delete+insert',
          unique_key='hour', partition_by='hour') }}
select '{{ var("hour", "none") }}' as hour, i % 1000 as id, '{{ var("by", "first") }}' as written_by
from range(200000) r(i)
{% if is_incremental() %}
qualify row_number() over (partition by id order by i) = 1
{% else %}
where i < 1000
{% endif %}
"""


def together(project, *commands):
    """Start dbt commands at once; return those that ended well."""
    started = [project.start(*command) for command in commands]
    ended = [command.wait() for command in started]
    return [command for command in ended if command.is_done]


def hour(name: str, by: str) -> tuple[str, ...]:
    return ("run", "--select", "hourly", "--vars", f"{{hour: {name}, by: {by}}}")


def test_processes_build_different_models_and_different_hours_at_once(project, rows):
    project.write("models/hourly.sql", HOURLY)
    project.write("models/other.sql", "select count(*) as n from range(100000)")
    project.dbt("run", "--select", "hourly")
    commands = [hour("h1", "one"), hour("h2", "two"), ("run", "--select", "other")]
    assert len(together(project, *commands)) == 3
    found = rows("select hour, written_by, count(*), count(distinct id) from dev.hourly "
                 "group by all order by all")  # fmt: skip
    assert found == [
        ("h1", "one", 1000, 1000), ("h2", "two", 1000, 1000), ("none", "first", 1000, 1000)
    ]  # fmt: skip
    assert rows("from dev.other") == [(100000,)]


def test_processes_that_build_one_hour_at_once_leave_the_rows_of_one(project, rows):
    project.write("models/hourly.sql", HOURLY)
    project.dbt("run", "--select", "hourly")
    before = open_table("dev.hourly").version()
    writers = [hour("h1", name) for name in ("one", "two", "three")]
    done = together(project, *writers)
    assert done
    assert open_table("dev.hourly").version() == before + len(done)
    found = rows("select count(distinct written_by), count(*), count(distinct id) "
                 "from dev.hourly where hour = 'h1'")  # fmt: skip
    assert found == [(1, 1000, 1000)]
