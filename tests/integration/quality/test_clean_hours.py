"""Hours without a fault raise no alarm: generated ones, and what nobody here wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.chimera.demo.recorded.replayed import SPAN_HOURS, ReplayedFeed
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.records import write_record
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.quality.batches import staged_rows, window_and_keys
from include.chimera.quality.gate import Gate
from include.chimera.quality.gx.checkpoint import gate_database
from include.chimera.quality.quality_results import record_quality
from include.chimera.quality.rules.book import rule_book
from include.chimera.window import HOUR, Run, Window
from tests.integration.quality.gating import START, alarms, stage
from tests.integration.quality.hours import bronze_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from include.chimera.demo.feed import Feed
    from include.chimera.lake.staged.verdicts import Verdict

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("gate_lake")]


def judge_here(lake: DuckDBPyConnection, run: Run, table: str, rows: pa.Table) -> Verdict:
    """Judge as the gate does and keep its record, in a session shared by all hours."""
    stage(run, table, rows)
    book, batch = rule_book(table), load_manifest(run, table)
    query = staged_rows(run, batch)
    with gate_database(query, window_and_keys(book, run, batch, lake)) as database:
        gate = Gate(table, run, lake, book, query, database, batch)
        verdict = gate.checkpoint(gate.context()).run()
    write_record(run, table, verdict)
    return verdict


def unexpected(
    feed: Feed, hours: int, *, is_recorded: bool = False
) -> Iterator[tuple[str, str, set[str]]]:
    """Judge each hour's bronze; yield run, table and alarms wherever there is one."""
    with connect() as lake:
        for number in range(hours):
            window = Window.of_hour(START + number * HOUR)
            run = Run(f"scheduled__{window.end.isoformat()}", window)
            tables = bronze_tables(feed, window)
            for table in sorted(tables, key="bronze.models".__ne__):
                verdict = judge_here(lake, run, table, tables[table])
                if alarms(verdict) or verdict.outcome != "passed":
                    yield run.run_id, table, alarms(verdict)
            if is_recorded:
                record_quality(run)


def anomalies() -> list[tuple]:
    """Return the anomalies compared with past days."""
    from tests.integration.quality.test_gate import rows_of  # noqa: PLC0415

    return rows_of(
        "ops.quality_results",
        "run_id, table_name, rule_id, observed_value",
        "starts_with(rule_id, 'anomaly_') and not is_passed",
    )


def test_ten_generated_hours_raise_no_alarm() -> None:
    """A morning of the sample application."""
    assert list(unexpected(GeneratedFeed(1000), 10)) == []


@pytest.mark.long
def test_two_hundred_generated_hours_raise_no_alarm(gate_lake: Path) -> None:
    """Eight days and nights, anomaly rules included once they have days to compare with."""
    del gate_lake
    assert list(unexpected(GeneratedFeed(1000), 200, is_recorded=True)) == []
    assert anomalies() == []


def test_real_traces_raise_no_alarm(traces_folder: Path) -> None:
    """Azure's, llmperf's, JailbreakBench's, a web server's and a Prometheus server's rows."""
    assert list(unexpected(ReplayedFeed(traces_folder, START), SPAN_HOURS)) == []
