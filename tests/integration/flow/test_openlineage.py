"""What OpenLineage is told of gates: gold columns down to sources, rules, rows, refusals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from airflow.sdk.exceptions import AirflowFailException
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde
from openlineage.client.uuid import generate_new_uuid

from include.chimera.contracts import BRONZE
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.flow.gate_operator import gate_task
from include.chimera.flow.lineage.openlineage_facets import COLUMN_LINEAGE, datasets_of
from include.chimera.lake.staged.publications import Publication
from include.chimera.paths import PROJECT
from include.chimera.settings import get_settings
from scripts.column_lineage import column_lineage
from scripts.described_tables import tables
from tests.integration.flow.test_assets import context
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import RUN, stage
from tests.integration.quality.hours import bronze_tables
from tests.lineage_events import faults, origins

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

TABLE = "bronze.evaluations"
MODELS = [table.name for layer in ("silver", "gold") for table in tables(layer)]


def event(gate_name: str, inputs: list, outputs: list, state: RunState = RunState.COMPLETE) -> dict:
    """Return the event as it goes over the wire, once it is known to keep the schemas."""
    made = RunEvent(
        eventTime=RUN.window.end.isoformat(),
        eventType=state,
        run=Run(str(generate_new_uuid())),
        job=Job("chimera", gate_name),
        inputs=inputs,
        outputs=outputs,
    )
    told = json.loads(Serde.to_json(made))
    assert faults(told) == []
    return told


def committed(table: str) -> dict:
    """Return the event of a commit of twelve rows."""
    inputs, outputs = datasets_of(table, None, Publication(table, 12, 12, 0, 0, 7))
    return event(table, inputs, outputs)


def test_the_file_is_what_the_models_say() -> None:
    assert json.loads(COLUMN_LINEAGE.read_text()) == column_lineage()


@pytest.mark.parametrize("table", MODELS)
def test_every_column_of_a_model_comes_from_columns_that_exist(table: str) -> None:
    (output,) = committed(table)["outputs"]
    facets = output["facets"]
    names = [field["name"] for field in facets["schema"]["fields"]]
    assert names
    assert all(field["type"] for field in facets["schema"]["fields"])
    assert set(facets["columnLineage"]["fields"]) == set(names)
    assert facets["version"]["datasetVersion"] == "7"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 12


def test_every_gold_column_leads_back_to_a_source() -> None:
    """Through events alone, as a catalogue follows them."""
    found = origins(committed(table) for table in (*MODELS, *(each.name for each in BRONZE)))
    gold = {key: roots for key, roots in found.items() if "/gold/" in key[0]}
    assert len(gold) > 150
    assert not [key for key, roots in gold.items() if not roots]
    assert set().union(*gold.values()) >= {"app.generations"}


def test_each_rule_is_an_assertion_and_counts_are_all_that_is_told() -> None:
    """Also of a gate that refused: what was judged is an input, and there is no output."""
    rows = bronze_tables(GeneratedFeed(1000), RUN.window)[TABLE]
    stage(RUN, TABLE, put("status", None)(rows, chosen_rows(rows, 0.09, 1)))
    gate = gate_task(TABLE)
    with pytest.raises(AirflowFailException):
        gate.execute(context())
    told = event(TABLE, *datasets_of(TABLE, *gate.judged), RunState.FAIL)
    assert told["outputs"] == []
    judged = told["inputs"][-1]
    assert (judged["namespace"], judged["name"]) == (
        "file", f"{get_settings().lake}/bronze/evaluations",
    )  # fmt: skip
    rules = judged["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert len(rules) == len(gate.judged[0].results) > 10
    (broken,) = [rule for rule in rules if rule["name"] == "not_null_status"]
    assert (broken["assertion"], broken["column"]) == ("not_null", "status")
    assert (broken["success"], broken["severity"]) == (False, "error")
    assert broken["actual"].endswith("rows break it")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"eventTime": "yesterday"}, "'yesterday' is not a 'date-time'"),
        ({"job": {"name": "gate"}}, "'namespace' is a required property"),
        ({"schemaURL": "https://openlineage.io/spec/9-9-9/OpenLineage.json"}, "no schema is"),
        ({"outputs": [{"namespace": "file", "name": 7}]}, "7 is not of type 'string'"),
        ({"inputs": [{"namespace": "file", "name": "a", "rows": 1}]}, "rows"),
    ],
)
def test_what_breaks_the_schemas_is_found(broken: dict, told: str) -> None:
    assert told in " ".join(faults({**committed("gold.dim_models"), **broken}))


def test_a_facet_that_breaks_its_schema_is_found() -> None:
    made = committed("gold.dim_models")
    (output,) = made["outputs"]
    output["outputFacets"]["outputStatistics"]["rowCount"] = "twelve"
    output["facets"]["schema"]["fields"][0].pop("name")
    assert [line.partition(":")[0] for line in faults(made)] == [
        "event.outputs.0.facets.schema.fields[0]",
        "event.outputs.0.outputFacets.outputStatistics.rowCount",
    ]


def test_nothing_of_it_is_imported_by_a_gate_that_nobody_asks() -> None:
    code = "import include.chimera.flow.gate_operator, sys; print('openlineage' in sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("False\n")
