"""The gates' commands, without Airflow: validate, accept, validate again."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import GateFailedError
from include.chimera.lake.delta.tables import open_table
from include.chimera.operations.quality_report import report_place
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import RUN, gated, stage
from tests.integration.quality.hours import bronze_tables

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

TABLE = "bronze.evaluations"


def test_commands_tell_what_the_gate_told_and_let_it_through(monkeypatch) -> None:
    """`validate` gives the DAG's verdict and commits nothing; its exit code is the verdict."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(words))
        return done.exit_code, done.output

    rows = bronze_tables(GeneratedFeed(1000), RUN.window)[TABLE]
    stage(RUN, TABLE, put("status", None)(rows, chosen_rows(rows, 0.09, 1)))
    with gated(RUN, TABLE) as (gate, verdict), pytest.raises(GateFailedError):
        gate.publish()
    code, said = run("validate", TABLE)
    assert code == 1
    assert f"failed: {', '.join(verdict.failed_rules)}" in said
    assert f"{verdict.rows_refused} of {verdict.rows} rows bad" in said
    code, query = run("staged", TABLE)
    assert code == 0
    assert len(duckdb.sql(query).fetchall()) == rows.num_rows
    code, said = run("accept", TABLE, "--reason", "Known, see the ticket.")
    assert code == 0
    assert "not_null_status" in said
    assert "clear the task of the gate: gate_bronze_evaluations" in said
    code, said = run("validate", TABLE)
    assert code == 0
    assert "accepted: " in said
    assert open_table(TABLE) is None
    assert run("report") == (0, f"{report_place()}\n")
    assert Path(report_place()).is_file()
