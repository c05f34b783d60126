"""A cleared run reports what its new attempt found, not what an earlier one did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import GateFailedError
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.staged.manifests import keep_only, load_manifest, save
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import (
    WHOLE_RUN,
    read_record,
    read_records,
    to_json,
    write_record,
)
from include.chimera.lake.staged.reports import RunReport
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.local.runs.run_report import read_pipeline_report
from include.chimera.operations.quality_report import write_report
from include.chimera.operations.run_metrics import note_counted, run_facts
from include.chimera.quality.quality_results import record_quality
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Run, Window
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import RUN, gated, stage
from tests.integration.quality.hours import bronze_tables

if TYPE_CHECKING:
    import pyarrow as pa

pytestmark = pytest.mark.integration

JUDGED, BROKEN, NOT_REACHED = "bronze.models", "bronze.evaluations", "bronze.generations"
TABLES, GONE = (JUDGED, BROKEN, NOT_REACHED), "gold.left_the_pipeline"


@pytest.fixture(scope="module")
def hour() -> dict[str, pa.Table]:
    """Return one clean hour of bronze."""
    return bronze_tables(GeneratedFeed(1000), RUN.window)


def attempt(tables: dict[str, pa.Table], run: Run = RUN) -> None:
    """Stage, judge and publish, as extracts and gates do."""
    for name, rows in tables.items():
        stage(run, name, rows)
        with gated(run, name) as (gate, _):
            gate.publish()


@pytest.fixture
def cleared(hour, lake) -> None:  # noqa: ARG001 - in its lake
    """Leave records of an attempt that published everything, and of a table removed since."""
    attempt({name: hour[name] for name in TABLES})
    for kind in (Verdict, Publication):
        record = read_record(RUN, JUDGED, kind)
        write_record(RUN, GONE, replace(record, table=GONE))
    record_quality(RUN)
    close_run(RUN)
    note_counted(RUN)


def fail_again(hour) -> None:
    """Run the cleared run up to a gate that fails; the gate downstream can't start."""
    attempt({JUDGED: hour[JUDGED]})
    bad = put("successes", -1)(hour[BROKEN], chosen_rows(hour[BROKEN], 1, 7))
    with pytest.raises(GateFailedError):
        attempt({BROKEN: bad})
    keep_only(RUN, {JUDGED, BROKEN})


@pytest.mark.usefixtures("cleared")
def test_a_former_attempts_report_is_gone_as_soon_as_there_are_other_rows(hour) -> None:
    report = read_record(RUN, WHOLE_RUN, RunReport)
    assert report == read_pipeline_report(get_settings().lake, RUN), "where make run looks for it"
    assert report
    stage(RUN, JUDGED, hour[JUDGED])
    assert read_record(RUN, WHOLE_RUN, RunReport) is None
    assert read_record(RUN, JUDGED, Verdict) is None
    assert read_record(RUN, JUDGED, Publication) is None


@pytest.mark.usefixtures("cleared")
def test_a_failed_attempt_tells_its_own_figures_alone(hour) -> None:
    """In the records, the report, the page, and the counters; each counts once."""
    before = Run("scheduled__before", Window(RUN.window.start - HOUR, RUN.window.start))
    attempt({NOT_REACHED: bronze_tables(GeneratedFeed(1000), before.window)[NOT_REACHED]}, before)
    record_quality(before)
    assert counted() == set(), "the former attempt's rows were counted"
    fail_again(hour)
    record_quality(RUN)
    assert counted() == {JUDGED, BROKEN}
    failed = {s.table: s.value for s in run_facts(RUN) if s.name == "chimera_gate_is_failed"}
    assert failed == {JUDGED: False, BROKEN: True}
    note_counted(RUN)
    assert counted() == set()
    assert set(read_records(RUN, Publication)) == {JUDGED}
    report = close_run(RUN)
    assert [row.table for row in report.tables] == [JUDGED]
    verdicts = {row.table: row.verdict for row in report.gates}
    assert verdicts == {JUDGED: "passed", BROKEN: "failed"}
    page = Path(write_report(RUN)).read_text()
    assert page.count(">not judged<") == 1
    assert "passed in the hour 2026-01-05 09:00" in page, "the hour before, as such"
    assert '<span class="word failed">1 failed</span> <span class="word passed">1 passed' in page
    assert GONE not in to_json(report) + page


def counted() -> set[str]:
    return {sample.table for sample in run_facts(RUN) if sample.kind == "counter"}


@pytest.mark.usefixtures("cleared")
def test_a_page_about_an_hour_tells_nothing_of_later_hours(hour) -> None:
    later = Run("scheduled__later", Window(RUN.window.end, RUN.window.end + HOUR))
    attempt({JUDGED: hour[JUDGED]}, later)
    record_quality(later)
    page = Path(write_report(RUN)).read_text()
    assert later.run_id not in page
    assert "not judged" not in page


@pytest.mark.usefixtures("cleared")
def test_what_a_late_attempt_stages_takes_nothing_back() -> None:
    """A zombie's files are never used, and the records are about the newer ones."""
    newest = load_manifest(RUN, JUDGED)
    save(RUN, replace(newest, token=newest.token - 1))
    assert read_record(RUN, JUDGED, Verdict)
    assert read_record(RUN, WHOLE_RUN, RunReport)


@pytest.mark.usefixtures("cleared")
def test_the_ledger_keeps_one_row_an_attempt(hour) -> None:
    name = "ops.window_ledger"
    attempt({JUDGED: hour[JUDGED]})
    close_run(RUN)
    with connect() as connection:
        found = connection.execute(
            f"select rows_published, rows_duplicate from ({scan(open_table(name), name)}) "
            f"where table_name = '{JUDGED}' order by attempt_token"
        ).fetchall()
    rows = hour[JUDGED].num_rows
    assert found == [(rows, 0), (0, rows)]
