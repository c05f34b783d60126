"""Contracts on nested columns hold as they do on scalar ones."""

from __future__ import annotations

import pytest
import yaml

from include.chimera.lake.delta.tables import open_table

pytestmark = pytest.mark.integration

NESTED = {
    "l": ("varchar[]", "['x']"),
    "s": ("struct(a integer, b varchar)", "{'a': 1, 'b': 'x'}"),
    "m": ("map(varchar, integer)", "map {'k': 1}"),
}


def write(project, columns: dict[str, str], query: str) -> None:
    """Write a model with an enforced contract: each column required and of its type."""
    listed = [
        {"name": name, "data_type": kind, "constraints": [{"type": "not_null"}]}
        for name, kind in columns.items()
    ]
    model = {"name": "nested", "config": {"contract": {"enforced": True}}, "columns": listed}
    project.write("models/nested.yml", yaml.safe_dump({"version": 2, "models": [model]}))
    project.write("models/nested.sql", f"{{{{ config(materialized='table') }}}} {query}")


@pytest.mark.long
def test_nested_columns_are_held_to_their_contract(project, rows):
    """Null where a value is required, or another type within: refused, and the old rows stay."""
    columns = {name: kind for name, (kind, _) in NESTED.items()}
    values = {name: f"{value}::{kind} as {name}" for name, (kind, value) in NESTED.items()}
    write(project, columns, f"select {', '.join(values.values())}")
    project.dbt("run")
    version = open_table("dev.nested").version()
    for name, kind in columns.items():
        broken = {**values, name: f"null::{kind} as {name}"}
        write(project, columns, f"select {', '.join(broken.values())}")
        assert f"1 rows break not null on {name}" in project.fail("run")
    write(project, columns, "select ['x'] as l, {'a': 'one', 'b': 'x'} as s, map {'k': 1} as m")
    assert "contract" in project.fail("run").lower()
    write(project, columns, "select [1] as l, {'a': 1, 'b': 'x'} as s, map {'k': 1} as m")
    assert "contract" in project.fail("run").lower()
    assert open_table("dev.nested").version() == version
    assert rows("select count(*) from dev.nested") == [(1,)]
