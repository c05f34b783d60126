"""The examples of include/dbt/README.md, built as they stand there."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from include.chimera.lake.delta.tables import open_table
from include.chimera.paths import DBT_PROJECT

pytestmark = pytest.mark.integration

EXAMPLE = re.compile(r"^```(?:sql|yaml)\n(?:--|#) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VISITS = "select id::integer as visitor_id, seen_at from (values {}) t(id, seen_at)"
FIRST, LATER = (f"timestamp '2026-01-01 {hour}:30:00'" for hour in ("08", "09"))


def test_examples_of_the_readme_do_what_they_say(project, rows):
    readme = (DBT_PROJECT / "README.md").read_text()
    examples = EXAMPLE.findall(readme)
    assert len(examples) == len(re.findall(r"^```(?:sql|yaml)$", readme, re.MULTILINE)) > 3
    for path, text in examples:
        project.write(path, text)
    for values in (f"(1, {FIRST}), (2, {FIRST})", f"(1, {LATER})"):
        project.write("models/visits.sql", VISITS.format(values))
        project.dbt("build", "--event-time-start", "2026-01-01", "--event-time-end", "2026-01-02")
    first, later = (datetime(2026, 1, 1, hour, 30) for hour in (8, 9))  # noqa: DTZ001 - no zone
    assert rows("from dev.visitors order by all") == [(1, first, later), (2, first, first)]
    assert rows("select hour(seen_hour), visits from dev.visits_hourly") == [(9, 1)]
    ended = "dbt_valid_to is not null"
    assert rows(f"select visitor_id, {ended} from dev.visitors_history order by all") == [
        (1, False),
        (1, True),
        (2, False),
    ]
    table = open_table("dev.visits")
    assert table.metadata().description.startswith("One row per visit")
    assert [field.nullable for field in table.schema().fields] == [False, True]
