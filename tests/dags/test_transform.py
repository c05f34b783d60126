"""The dbt models as tasks: a gate waits for the table that its model really builds."""

import json
from datetime import UTC, datetime

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from include.chimera.contracts import BRONZE
from include.chimera.errors import ConfigurationError
from include.chimera.flow.cosmos import graph as module
from include.chimera.paths import DBT_MANIFEST

MODEL = "model.chimera.dim_models"


@pytest.fixture
def render(tmp_path, monkeypatch):
    """Return what renders the project with other values of one model in dbt's manifest."""

    def rendered(**values: str) -> dict:
        manifest = json.loads(DBT_MANIFEST.read_text())
        manifest["nodes"][MODEL] |= values
        changed = tmp_path / "manifest.json"
        changed.write_text(json.dumps(manifest))
        monkeypatch.setattr(module, "DBT_MANIFEST", changed)
        with DAG("small", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None):
            bronze = {table.name: EmptyOperator(task_id=table.name) for table in BRONZE}
            layers = {name: module.layer_group(name) for name in ("bronze", "silver", "gold")}
            return module.transform(bronze, layers)

    return rendered


def test_a_gate_judges_the_table_that_its_model_builds(render):
    """By alias and schema, also of a versioned model (whose alias dbt makes) and dbt's defaults."""
    gates = render(alias="dim_models_v2", schema="silver")
    gate = gates["silver.dim_models_v2"]
    assert (gate.table, gate.task_id) == (
        "silver.dim_models_v2", "gate_silver_dim_models_v2",
    )  # fmt: skip
    assert gate.upstream_task_ids == {"build_dim_models"}
    assert "gold.dim_models" not in gates


@pytest.mark.parametrize("alias", ["models.v2", "models v2", "modèles"])
def test_an_alias_that_no_task_can_carry_is_refused_by_name(render, alias):
    with pytest.raises(ConfigurationError, match=rf"alias '{alias}'.*{MODEL}.*another alias"):
        render(alias=alias)
