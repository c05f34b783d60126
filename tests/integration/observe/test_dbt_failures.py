"""A failed dbt build is classed by what made it fail, not by Cosmos' one exception."""

from __future__ import annotations

import json
import multiprocessing
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.integration.dbt.conftest import make_project
from tests.integration.observe import dbt_reason

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

PROPERTIES = """
sources: [{name: raw, tables: [{name: events}]}]
models:
  - name: contract
    config: {contract: {enforced: true}}
    columns: [{name: a, data_type: timestamp}]
  - name: cast_in_test
    columns: [{name: a, data_tests: [{accepted_values: {arguments: {values: [1], quote: false}}}]}]
  - name: tested
    columns: [{name: a, data_tests: [not_null]}]
"""
MODELS = {
    "raised": ("{% if execute %}{{ exceptions.raise_compiler_error('4711') }}{% endif %}",
               "ModelError", 0),
    "syntax": ("selec 4711 as a", "ModelError", 0),
    "column": ("select b from (select 4711 as a)", "ModelError", 0),
    "contract": ("select 4711 as a", "ModelError", 0),
    "missing": ("select * from {{ source('raw', 'events') }}", "ConfigurationError", 0),
    "value": ("select cast(a as int) as a from (values ('x4711')) as t (a)", "ConversionError", 1),
    "cast_in_test": ("select chr(27) || 'x' || (4700 + 11) as a", "ConversionError", 1),
    "tested": ("select null as a", "ModelRowsError", 1),
    "file": ("select * from read_parquet('/no/such/4711.parquet')", "StorageAwayError", 3),
    "disk": ("{% do adapter.execute(\"copy (select 1) to '/no/such/4711.csv'\") %} select 1 as a",
             "StorageAwayError", 3),
    # Another run made the table between dbt's look for it and ours.
    "appeared": ("select 4711 as a", "CommitConflictError", 3),
}  # fmt: skip
UNSEEN = """{% macro load_cached_relation(relation) %}
    {% if relation.identifier == 'appeared' %}{{ return(none) }}{% endif %}
    {{ return(adapter.get_relation(relation.database, relation.schema, relation.identifier)) }}
{% endmacro %}"""


PYTHON = """
def model(dbt, session):
    rows = session.sql("select 'x' || (4700 + 11) as a").fetchall()
    if rows:
        raise ValueError(rows[0][0])
    return session.sql("select 1 as a")
"""


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Build all models in one process, which imports dbt and Airflow once."""
    folder: Path = tmp_path_factory.mktemp("reasons")
    project = make_project(folder)
    project.write("models/wrong.yml", PROPERTIES)
    for name, (sql, *_) in MODELS.items():
        kind = "incremental" if name == "appeared" else "table"
        project.write(f"models/{name}.sql", f"{{{{ config(materialized='{kind}') }}}} {sql}")
    project.dbt("run", "--select", "appeared")
    config = yaml.safe_load((folder / "dbt_project.yml").read_text())
    config["macro-paths"].append("macros")
    project.write("dbt_project.yml", yaml.safe_dump(config))
    project.write("macros/unseen.sql", UNSEEN)
    project.write("models/python.py", PYTHON)
    process = multiprocessing.get_context("spawn").Process(
        target=dbt_reason.run, args=(str(folder), [*MODELS, "python"], project.environment)
    )
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return json.loads((folder / "reasons.json").read_text())


@pytest.mark.parametrize("model", MODELS)
def test_the_cause_decides_how_often_dbt_is_tried_again(reasons: dict, model: str) -> None:
    """External failures three times, rows once, code never; and its text contains no value."""
    name, retries, text, _ = reasons[model]
    assert (name, retries) == tuple(MODELS[model][1:])
    assert "Next:" in text
    assert "4711" not in text


ROWS = {
    "value": "no INTEGER in column a",
    "cast_in_test": "a value of VARCHAR that is no INTEGER",
    "python": "ValueError: its text is left out",
}


@pytest.mark.parametrize("model", ROWS)
def test_no_line_or_result_of_dbts_holds_a_value(reasons: dict, model: str) -> None:
    """They become log lines and exceptions of Cosmos and Airflow, with columns and types."""
    said = "\n".join(reasons[model][3])
    assert ROWS[model] in said
    assert "4711" not in said
    assert "\x1b" not in said
