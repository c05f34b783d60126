"""A gate from staged rows to a commit, a refusal, or an outage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.errors import GateFailedError, NothingToAcceptError, StorageAwayError
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot, write_views
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.staged.records import read_record, table_folder
from include.chimera.lake.staged.verdicts import Verdict
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.operations.gaps import find_gaps
from include.chimera.quality.acceptance import Acceptance, accept, current_user
from include.chimera.quality.gate import open_gate
from include.chimera.quality.quality_results import record_quality
from include.chimera.window import HOUR, Window
from tests.integration.quality.faults import chosen_rows, put
from tests.integration.quality.gating import RUN, gated, stage
from tests.integration.quality.hours import bronze_tables

if TYPE_CHECKING:
    from include.chimera.window import Run

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

TABLE = "bronze.generations"


@pytest.fixture(scope="module")
def hour() -> dict[str, pa.Table]:
    """Return one clean hour of bronze."""
    return bronze_tables(GeneratedFeed(1000), RUN.window)


def with_bad_status(rows: pa.Table, share: float) -> pa.Table:
    """Break a share of the rows."""
    return put("status", "refunded")(rows, chosen_rows(rows, share, 7))


def run_gate(table: str = TABLE, run: Run = RUN) -> None:
    """Judge and publish, as the operator does."""
    with gated(run, table) as (gate, _):
        gate.publish()


def rows_of(name: str, columns: str, where: str = "true") -> list[tuple]:
    """Query a table of the lake."""
    with connect() as connection:
        return connection.execute(
            f"select {columns} from ({scan(open_table(name), name)}) where {where}"
        ).fetchall()


def test_few_bad_rows_go_to_the_dead_letters_with_their_rule(hour) -> None:
    """Above the pass ratio the others are published; nothing is lost."""
    rows = with_bad_status(hour[TABLE], 0.005)
    stage(RUN, TABLE, rows)
    run_gate()
    ((published,),) = rows_of(TABLE, "count(*)")
    letters = rows_of("ops.dead_letters", "reason, count(*)", "true group by reason")
    bad = len(chosen_rows(rows, 0.005, 7))
    assert (published, letters) == (rows.num_rows - bad, [("in_set_status", bad)])


def test_refused_batch_leaves_the_table_until_a_person_accepts_it(hour) -> None:
    """After one acceptance and one clear, the commit and the history say who accepted and why."""
    stage(RUN, TABLE, with_bad_status(hour[TABLE], 0.05))
    with pytest.raises(GateFailedError, match=r"in_set_status, min_pass_ratio.*rows bad"):
        run_gate()
    assert open_table(TABLE) is None
    found = accept(TABLE, "latest", "  Refunds are new this week. ")
    assert found.accepted_by == current_user()
    run_gate()
    (commit,) = open_table(TABLE).history(1)
    assert commit["accepted_by"] == found.accepted_by
    assert commit["accepted_reason"] == "Refunds are new this week."
    assert json.loads(commit["accepted_rules"]) == ["in_set_status", "min_pass_ratio"]
    record_quality(RUN)
    assert rows_of("ops.quality_results", "distinct verdict, accepted_by, accepted_reason") == [
        ("accepted", found.accepted_by, "Refunds are new this week.")
    ]


def test_acceptance_is_about_the_staged_files_alone(hour) -> None:
    """Once files are staged again, a person must look again."""
    rows = with_bad_status(hour[TABLE], 0.05)
    stage(RUN, TABLE, rows)
    with pytest.raises(GateFailedError):
        run_gate()
    accept(TABLE, RUN.run_id, "looked at them")
    stage(RUN, TABLE, rows)
    with pytest.raises(GateFailedError):
        run_gate()


def test_after_a_rerun_the_gate_has_to_judge_again(hour) -> None:
    """The verdict was about files no longer in use; the message "0 other runs" did not say so."""
    rows = with_bad_status(hour[TABLE], 0.05)
    stage(RUN, TABLE, rows)
    with pytest.raises(GateFailedError):
        run_gate()
    stage(RUN, TABLE, rows)
    with pytest.raises(NothingToAcceptError, match=r"no run in which it has.*judge again first"):
        accept(TABLE, RUN.run_id, "looked at them")


def test_only_a_failed_gate_can_be_accepted(hour) -> None:
    """Not one that passed or has not run, and not without a reason."""
    with pytest.raises(NothingToAcceptError, match="no run in which it has"):
        accept(TABLE, "latest", "why not")
    stage(RUN, TABLE, hour[TABLE])
    run_gate()
    with pytest.raises(NothingToAcceptError, match="passed"):
        accept(TABLE, "latest", "why not")
    with pytest.raises(NothingToAcceptError, match="empty reason"):
        accept(TABLE, "latest", " ")
    assert read_record(RUN, TABLE, Acceptance) is None


def test_lost_file_is_an_outage_and_no_verdict(hour) -> None:
    """It is retried, and no verdict is recorded."""
    stage(RUN, TABLE, hour[TABLE])
    for path in Path(table_folder(RUN, TABLE)).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(StorageAwayError, match="a file that is not there"):
        run_gate()
    assert read_record(RUN, TABLE, Verdict) is None


def test_file_lost_while_the_rules_run_is_an_outage_too(hour) -> None:
    """GX catches a rule's exception, whose class distinguishes an outage from a broken rule."""
    stage(RUN, TABLE, hour[TABLE])
    with open_gate(TABLE, RUN) as gate:
        checkpoint = gate.checkpoint(gate.context())
        for path in Path(table_folder(RUN, TABLE)).rglob("*.parquet"):
            path.unlink()
        with pytest.raises(StorageAwayError, match="a file that is not there"):
            checkpoint.run()


def test_snapshot_is_published_when_every_branch_passed(clean_rows) -> None:
    """One failed branch prevents it; views pin a plain DuckDB session to its versions."""
    tables = {name: clean_rows[name] for name in ("gold.dim_models", "silver.stg_app__models")}
    for name, rows in tables.items():
        stage(RUN, name, rows)
        run_gate(name)
    close_run(RUN, [*tables, "gold.dim_providers"])
    assert open_table("ops.published_versions") is None
    close_run(RUN, tables)
    close_run(RUN, tables)
    snapshot = published_snapshot()
    assert (snapshot.run_id, set(snapshot.versions)) == (RUN.run_id, set(tables))
    assert rows_of("ops.published_versions", "count(*)") == [(len(tables),)]
    stage(RUN, "gold.dim_models", clean_rows["gold.dim_models"].slice(0, 1))
    run_gate("gold.dim_models")
    views = Path(write_views(snapshot)).read_text()
    with connect() as connection:
        connection.execute(views)
        found = connection.execute("select count(*) from gold.dim_models").fetchone()
    assert found == (clean_rows["gold.dim_models"].num_rows,)


def test_model_whose_gate_failed_lacks_the_hours_since(clean_rows) -> None:
    """Until it passes again: the next build covers what it missed."""
    name, expected = "gold.dim_models", Window(RUN.window.start - HOUR, RUN.window.end + HOUR)

    def missing() -> list[Window]:
        record_quality(RUN)
        return [gap.window for gap in find_gaps(expected) if gap.table == name]

    rows = clean_rows[name]
    stage(RUN, name, pa.concat_tables([rows, rows]))
    with pytest.raises(GateFailedError, match="unique_model_id"):
        run_gate(name)
    assert missing() == [Window(RUN.window.start, expected.end)]
    stage(RUN, name, rows)
    run_gate(name)
    assert missing() == [Window(RUN.window.end, expected.end)]


def test_history_is_written_once_per_verdict(hour) -> None:
    """A retried task adds nothing; a gate that judged again does."""
    stage(RUN, TABLE, hour[TABLE])
    run_gate()
    first = record_quality(RUN)
    assert first > 0
    assert record_quality(RUN) == 0
    run_gate()
    assert record_quality(RUN) == first


def test_gate_database_is_read_only_and_bounded(hour) -> None:
    """GX's session can't write, and has the memory limit of the settings."""
    stage(RUN, TABLE, hour[TABLE])
    with open_gate(TABLE, RUN) as gate:
        context = gate.context()
        engine = context.data_sources.get("gate").get_execution_engine().engine
        with engine.connect() as connection:
            limit = connection.exec_driver_sql(
                "select current_setting('memory_limit'), current_setting('TimeZone')"
            ).fetchone()
            assert limit == ("488.2 MiB", "UTC")
            with pytest.raises(Exception, match="read-only"):
                connection.exec_driver_sql("create table intruder (i int)")
