"""The lake's macros in a small project: what dbt's conformance suite can't check here."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.integration

SNAPSHOT = """
snapshots:
  - name: seen
    relation: ref('current')
    config:
      unique_key: id
      strategy: check
      check_cols: [v]
      hard_deletes: invalidate
      dbt_valid_to_current: "timestamp '2099-12-31'"
"""


def test_snapshot_ends_changed_and_deleted_rows_and_keeps_the_current_mark(project, rows):
    """Each dbt command is a process of its own."""
    project.write("snapshots/seen.yml", SNAPSHOT)
    for values in ("(1, 'a'), (2, 'b'), (3, 'c')", "(1, 'a'), (2, 'B')"):
        project.write("models/current.sql", f"select * from (values {values}) t(id, v)")
        project.dbt("build")
    current = "dbt_valid_to = timestamp '2099-12-31'"
    found = rows(f"select id, v, {current} from dev.seen order by id, dbt_valid_from, {current}")
    assert found == [(1, "a", True), (2, "b", False), (2, "B", True), (3, "c", False)]


def test_grants_are_refused_with_the_place_where_they_belong(project):
    project.write(
        "models/shown.sql",
        "{{ config(materialized='table', grants={'select': ['someone']}) }} select 1 as id",
    )
    assert "Expected no grants; came grants for select" in project.fail("run")
