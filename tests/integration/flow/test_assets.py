"""A gate's asset event: what it says of a commit, and that a refusal says nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.flow.gate_operator import asset_of, gate_task
from include.chimera.lake.delta.tables import open_table
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import RUN, stage
from tests.integration.quality.hours import bronze_tables

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

TABLE = "bronze.evaluations"


def context() -> dict:
    """Return what a gate asks of Airflow."""
    dag_run = SimpleNamespace(
        run_id=RUN.run_id,
        run_type="scheduled",
        data_interval_start=RUN.window.start,
        data_interval_end=RUN.window.end,
    )
    ti = SimpleNamespace(task_id="gate_bronze_evaluations", xcom_push=lambda **_: None)
    return {"dag_run": dag_run, "params": {}, "ti": ti, "outlet_events": OutletEventAccessors()}


def test_an_event_says_version_rows_window_and_run() -> None:
    rows = bronze_tables(GeneratedFeed(1000), RUN.window)[TABLE]
    stage(RUN, TABLE, rows)
    gate, found = gate_task(TABLE), context()
    assert gate.outlets == [asset_of(TABLE)]
    assert (asset_of(TABLE).name, asset_of(TABLE).uri) == (
        TABLE, "chimera://lake/bronze/evaluations",
    )  # fmt: skip
    gate.execute(found)
    assert found["outlet_events"][asset_of(TABLE)].extra == {
        "version": open_table(TABLE).version(),
        "rows": rows.num_rows,
        "window_start": RUN.window.start.isoformat(),
        "window_end": RUN.window.end.isoformat(),
        "run_id": RUN.run_id,
        "correlation_id": RUN.correlation_id,
    }


def test_a_refused_batch_fails_the_task_so_that_airflow_adds_no_event() -> None:
    rows = bronze_tables(GeneratedFeed(1000), RUN.window)[TABLE]
    stage(RUN, TABLE, put("status", None)(rows, chosen_rows(rows, 0.09, 1)))
    gate, found = gate_task(TABLE), context()
    with pytest.raises(AirflowFailException):
        gate.execute(found)
    assert found["outlet_events"][asset_of(TABLE)].extra == {}
    assert open_table(TABLE) is None
