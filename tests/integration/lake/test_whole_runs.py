"""All tables as one run left them: what readers see, putting them back, comparing two runs."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from include.chimera.cli.app import app
from include.chimera.errors import ControlRefusedError, SnapshotMissingError
from include.chimera.lake.delta.lineage import consumed_mark, identity_of
from include.chimera.lake.delta.scans import ask
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.consistent_snapshots import published_snapshot
from include.chimera.lake.upkeep.optimization import maintain, optimize_layer
from include.chimera.operations.manual_controls import resume_publishing, stop_publishing
from include.chimera.operations.versions.whole_runs import restore_run
from include.chimera.quality.row_differences import version_difference
from tests.builders import run_of
from tests.integration.lake.ticks import (
    TABLES,
    build,
    build_tick,
    close,
    live_runs,
    pinned_runs,
    publish_tick,
    restore_killed,
    tick,
    watch,
)

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

pytestmark = pytest.mark.integration


def ask_for(*words: str) -> list[dict]:
    """Run a command; return its JSON."""
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_readers_of_the_views_stay_on_one_run_until_the_next_is_complete(
    connection: DuckDBPyConnection,
) -> None:
    """Whoever reads the newest versions sees a run that has published one table of three."""
    publish_tick(connection, 1)
    published = {"silver.ticks": build_tick(connection, 2, "silver.ticks")}
    assert (pinned_runs(connection), live_runs(connection)) == ({1}, {1, 2})
    for table in ("gold.fct_ticks", "gold.agg_ticks"):
        published[table] = build_tick(connection, 2, table)
    assert (pinned_runs(connection), live_runs(connection)) == ({1}, {2})
    assert close(2, published) == 3
    assert pinned_runs(connection) == {2}


def test_runs_side_by_side_publish_no_snapshot_that_mixes_them(
    connection: DuckDBPyConnection,
) -> None:
    """One's aggregate was made of the other's facts; the one that ends last has a snapshot."""
    publish_tick(connection, 1)
    first = {name: build_tick(connection, 2, name) for name in ("silver.ticks", "gold.fct_ticks")}
    second = {name: build_tick(connection, 3, name) for name in ("silver.ticks", "gold.fct_ticks")}
    first["gold.agg_ticks"] = build_tick(connection, 2, "gold.agg_ticks")
    assert close(2, first) == 0
    assert pinned_runs(connection) == {1}
    second["gold.agg_ticks"] = build_tick(connection, 3, "gold.agg_ticks")
    assert close(3, second) == 3
    assert pinned_runs(connection) == {3}


def test_no_reader_sees_two_runs_while_runs_are_published_and_killed(
    lake: Path,
) -> None:
    seen = watch(lake.parent, reads=240, seconds=120)
    assert (seen.mixed, seen.reads >= 24) == (0, True), seen


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(600, marks=pytest.mark.long), pytest.param(14_400, marks=pytest.mark.week)],
)
def test_a_hundred_thousand_reads_see_no_two_runs(lake: Path, seconds: int) -> None:
    """Or as many as the time gives; prints what a reader of the newest versions saw (`-s`)."""
    seen = watch(lake.parent, reads=100_000, seconds=seconds)
    print(seen)  # noqa: T201 - the numbers of docs/read.md
    assert seen.mixed == 0
    assert seen.reads >= 100_000 or (seen.reads >= 1_000 and seconds == 600)
    assert seen.kills >= 10
    assert seen.runs >= 10
    assert seen.live_mixed > 0


def age(lake: Path) -> None:
    """Let all that was replaced have been replaced long ago."""
    for entry in lake.glob("*/*/_delta_log/*.json"):
        text = entry.read_text()
        entry.write_text(re.sub(r'"deletionTimestamp":\d+', '"deletionTimestamp":0', text))
    for file in lake.glob("*/*/*.parquet"):
        os.utime(file, (0, 0))


@pytest.mark.usefixtures("damaged")  # by the vacuum
def test_the_vacuum_keeps_what_readers_are_pinned_to(
    connection: DuckDBPyConnection, lake: Path
) -> None:
    """However long no run is complete. Then it goes, and a restore to it is refused as a whole."""
    publish_tick(connection, 1)
    for number in (2, 3):
        build_tick(connection, number, "gold.agg_ticks")
    age(lake)
    (upkeep,) = optimize_layer("gold")
    assert (upkeep.table, upkeep.files_vacuumed) == ("gold.agg_ticks", 1)
    maintain(dry_run=False)
    assert pinned_runs(connection) == {1}
    publish_tick(connection, 4)
    age(lake)
    optimize_layer("gold")
    assert pinned_runs(connection) == {4}
    stop_publishing("look at it")
    before = {table: open_table(table).version() for table in TABLES}
    with pytest.raises(ControlRefusedError, match="1 of 1 files that are gone"):
        restore_run("run_1", "look at it")
    assert {table: open_table(table).version() for table in TABLES} == before


@pytest.fixture
def three_runs(connection: DuckDBPyConnection) -> None:
    """Publish three runs."""
    for number in (1, 2, 3):
        publish_tick(connection, number)


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize(
    ("step", "deaths"), [("restore.table", 3), ("restore.recorded", 1), ("restore.shown", 1)]
)
def test_a_restore_killed_at_any_step_is_completed_by_another(
    connection: DuckDBPyConnection, lake: Path, step: str, deaths: int
) -> None:
    """Readers are on one run throughout; each table is put back once, and recorded once."""
    stop_publishing("run 3 is wrong")
    for died in range(deaths):
        fault = f"{step}=kill"
        assert restore_killed(lake.parent, fault, "run_1"), f"death {died}"
        assert pinned_runs(connection) == ({1} if step == "restore.shown" else {3})
    assert not restore_killed(lake.parent, "", "run_1")
    assert (pinned_runs(connection), live_runs(connection)) == ({1}, {1})
    for table in TABLES:
        (commit,) = open_table(table).history(1)
        notes = (commit["restored_run"], commit["restored_to"], commit["restored_reason"])
        assert (commit["version"], *notes) == (3, "run_1", "0", "the fault of run 3")
        assert commit["restored_by"]
    told = ask(
        "ops.published_versions",
        "select table_name, table_version, replaced_version, restored_reason, restored_by <> '' "
        "from ({}) where restored_by is not null order by 1",
    )
    assert told == [(table, 3, 2, "the fault of run 3", True) for table in sorted(TABLES)]
    assert published_snapshot().versions == dict.fromkeys(TABLES, 3)


@pytest.mark.usefixtures("three_runs")
def test_a_restore_needs_stopped_publishing_a_reason_and_a_run() -> None:
    with pytest.raises(ControlRefusedError, match="stopped publishing"):
        restore_run("run_1", "why")
    stop_publishing("why")
    with pytest.raises(ControlRefusedError, match="an empty one"):
        restore_run("run_1", " ")
    with pytest.raises(SnapshotMissingError, match="run_9"):
        restore_run("run_9", "why")
    assert {open_table(table).version() for table in TABLES} == {2}


@pytest.mark.usefixtures("three_runs")
def test_the_command_says_what_it_would_do_does_it_and_takes_it_back(
    connection: DuckDBPyConnection,
) -> None:
    """The next run goes on as ever: what was put back counts as made of what was put back."""
    (planned,) = ask_for("restore", "--run", tick(1).correlation_id, "--dry-run")
    assert [each["table"] for each in planned["tables"]] == list(TABLES)
    assert [(each["restored_to"], each["replaced"]) for each in planned["tables"]] == [(0, 2)] * 3
    assert live_runs(connection) == {3}
    stop_publishing("run 3 is wrong")
    (done,) = ask_for("restore", "--run", "run_1", "--reason", "run 3 is wrong")
    assert [each["version"] for each in done["tables"]] == [3] * 3
    for table, parents in TABLES.items():
        for parent in parents:
            mark = consumed_mark(identity_of(parent, open_table(parent)))
            assert open_table(table).transaction_version(mark) == 3
    (again,) = ask_for("restore", "--run", "run_1", "--reason", "run 3 is wrong")
    assert {each["replaced"] for each in again["tables"]} == {None}
    assert live_runs(connection) == {1}
    ask_for("restore", "--run", "run_3", "--reason", "it was right")
    assert (pinned_runs(connection), live_runs(connection)) == ({3}, {3})
    resume_publishing("it was right")
    publish_tick(connection, 4)
    assert pinned_runs(connection) == {4}
    wrong = CliRunner().invoke(app, ["restore", "gold.fct_ticks", "--run", "run_1"])
    assert wrong.exit_code == 2


def test_two_runs_are_compared_by_key_and_no_value_is_told(
    connection: DuckDBPyConnection,
) -> None:
    """Only what differs is read: a partition whose files stayed is not looked into."""
    rows = "select 'model-' || i as model_id, 'name' || i as name, i as n, {} from range({}) r(i)"
    hour = "'20260101T0' || i // 2 as _window_hour"
    for query in (
        rows.format(hour, 6),
        rows.format(hour, 7).replace(
            "'name' || i", "case i when 1 then 'secret' else 'name' || i end"
        )
        + " where i <> 4",
    ):
        build(connection, run_of(), "gold.dim_models", query, ("_window_hour",))
    found = version_difference("gold.dim_models", 0, 1)
    assert found.key == ("model_id",)
    assert (found.added, found.changed, found.removed, found.same) == (1, 1, 1, 4)
    assert found.columns == {"name": 1}
    assert found.partitions == {
        "20260101T00": (0, 1, 0),
        "20260101T02": (0, 0, 1),
        "20260101T03": (1, 0, 0),
    }
    back = version_difference("gold.dim_models", 1, 0)
    assert (back.added, back.changed, back.removed, back.same) == (1, 1, 1, 4)
    assert version_difference("gold.dim_models", 1, 1).same == 6
    build(connection, run_of(), "gold.dim_models", f"select *, 1 as more from ({query})")
    wider = version_difference("gold.dim_models", 1, 2)
    assert (wider.columns_added, wider.added, wider.changed, wider.same) == (("more",), 0, 0, 6)


@pytest.mark.usefixtures("three_runs")
def test_the_command_compares_tables_without_a_key_by_whole_rows() -> None:
    found = ask_for("diff", "--run", "run_1", tick(3).correlation_id)
    assert [each["table"] for each in found] == sorted(TABLES)
    for each in found:
        assert (each["version"], each["newer"], each["key"]) == (0, 2, [])
        assert (each["added"], each["changed"], each["removed"]) == (3, 0, 3)
    text = CliRunner().invoke(app, ["diff", "--run", "run_1", "run_3"])
    assert text.output.count("by whole rows") == 3
    with pytest.raises(SnapshotMissingError):
        CliRunner().invoke(app, ["diff", "--run", "run_1", "run_9"], catch_exceptions=False)
