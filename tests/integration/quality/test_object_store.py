"""Each part of an hour on a lake in an object store: gates of all layers, and what they leave."""

from __future__ import annotations

import pytest

from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot, write_views
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.operations.quality_report import write_report
from include.chimera.quality.gx.data_docs import build_docs
from include.chimera.quality.quality_results import record_quality
from include.chimera.quality.rules.book import gated_tables
from tests.integration.object_store import lake_in
from tests.integration.quality.gating import RUN, gated, stage
from tests.integration.quality.hours import stage_hour

pytestmark = pytest.mark.integration


@pytest.fixture
def lake(tmp_path, monkeypatch, object_store):
    """Put the lake into a bucket, beside an empty state folder."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    with lake_in(object_store, monkeypatch) as root:
        yield root


def test_an_hour_passes_its_gates_and_is_told_in_the_store_alone(clean_rows, lake, tmp_path):
    bronze = {name: rows for name, rows in clean_rows.items() if name.startswith("bronze.")}
    stage_hour(RUN, bronze)
    for table in gated_tables():
        if table not in bronze:
            stage(RUN, table, clean_rows[table])
        with gated(RUN, table) as (gate, verdict):
            assert (verdict.outcome, verdict.rows) == ("passed", clean_rows[table].num_rows)
            gate.publish()
    assert record_quality(RUN)
    report = close_run(RUN, gated_tables())
    assert {table.table: table.rows_total for table in report.tables} == {
        table: rows.num_rows for table, rows in clean_rows.items()
    }
    views, page, docs = write_views(published_snapshot()), write_report(RUN), build_docs()
    for place in (views, page, docs):
        assert place.startswith(f"{lake}/")
    with connect() as connection:
        connection.execute(storage.read_text(views))
        for table, rows in clean_rows.items():
            if not table.startswith("bronze."):
                found = connection.execute(f"select count(*) from {table}").fetchone()
                assert found == (rows.num_rows,)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
