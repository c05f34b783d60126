"""Upkeep changes files, never rows."""

import os
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError
from duckdb import DuckDBPyConnection

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import VerificationError
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.ops_tables.ledger import close_run
from include.chimera.lake.upkeep.optimization import compact, maintain, optimize_layer
from include.chimera.operations.gaps import find_gaps
from include.chimera.operations.run_metrics import run_facts
from tests.builders import HOUR, LABEL, generations, publish, run_of
from tests.integration.lake.store.damages import DAMAGES

TABLE = "bronze.generations"


@pytest.fixture
def many_files(connection: DuckDBPyConnection) -> None:
    """Make a partition of ten small files."""
    for number in range(10):
        publish(connection, run_of(), TABLE, generations(3, status=f"'{number}'"))


def content(connection: DuckDBPyConnection) -> list[tuple]:
    """Return the row count and an order-free checksum."""
    rows = scan(open_table(TABLE), TABLE)
    return connection.execute(
        f"select count(*), sum(cast(hash(t) as hugeint)) from ({rows}) as t"
    ).fetchall()


@pytest.mark.usefixtures("many_files")
def test_compaction_keeps_every_row(connection: DuckDBPyConnection) -> None:
    """Ten files become one."""
    before = content(connection)
    (upkeep,) = optimize_layer("bronze")
    assert (upkeep.files_before, upkeep.files_after) == (10, 1)
    assert content(connection) == before
    assert optimize_layer("bronze") == []


@pytest.mark.usefixtures("many_files", "damaged")
@pytest.mark.parametrize("damage", ["entry cut off", "newest entry empty", "a file"])
def test_a_damaged_table_is_named_and_the_others_are_looked_after(
    lake: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """Upkeep, the daily cleaning, the metrics, the report and a search for gaps all go on."""
    run = run_of()
    for number in range(3):
        rows = pa.table({"id": pa.array([number])})
        write_deltalake(str(lake / "bronze" / "broken"), rows, mode="append")
    DAMAGES[damage][0](lake / "bronze" / "broken")
    assert [upkeep.table for upkeep in optimize_layer("bronze")] == [TABLE]
    assert maintain(dry_run=True) is not None
    assert f"'{TABLE}'" in str(run_facts(run))
    assert close_run(run).tables == ()
    assert find_gaps(run.window)
    if damage != "a file":  # what is no folder is no table of the list
        assert caplog.text.count("bronze.broken is left out: Expected") >= 3
        assert "a damaged log" in caplog.text


@pytest.mark.usefixtures("many_files")
def test_overlapping_compactions_conflict() -> None:
    """The canary of the deltalake pin: 1.6.4 to 1.6.6 let both succeed and double every row."""
    one, two = open_table(TABLE), open_table(TABLE)
    one.optimize.compact()
    with pytest.raises(CommitFailedError):
        two.optimize.compact()


@pytest.mark.usefixtures("many_files")
def test_a_compaction_that_changes_rows_is_noticed(
    connection: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As deltalake 1.6.4 would: here the compared commit is one that adds rows."""
    del connection

    def not_only_compacted(
        *_: object, commit_properties: CommitProperties, **__: object
    ) -> dict[str, int]:
        table.delete("status = '3'", commit_properties=commit_properties)
        return {"numFilesRemoved": 1}

    table = open_table(TABLE)
    monkeypatch.setattr(type(table.optimize), "compact", not_only_compacted)
    with pytest.raises(VerificationError, match="the same 30 rows"):
        compact(TABLE, table, [LABEL])


@pytest.mark.usefixtures("many_files")
def test_a_compaction_beside_a_writer_compares_its_own_commit(
    connection: DuckDBPyConnection,
) -> None:
    """Rows that another writer adds between load and commit don't count as the compaction's."""
    table = open_table(TABLE)
    publish(connection, run_of(), TABLE, generations(3, status="'late'"))
    compact(TABLE, table, [LABEL])
    assert content(connection)[0][0] == 33
    assert len(open_table(TABLE).file_uris()) in {2, 11}


@pytest.mark.usefixtures("many_files")
def test_a_writer_right_after_a_compaction_is_not_taken_for_it(
    connection: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the compaction returns, the handle may already be at a later commit."""
    table = open_table(TABLE)
    merge = table.optimize.compact

    def overtaken(_: object, **options: object) -> dict[str, int]:
        metrics = merge(**options)
        publish(connection, run_of(), TABLE, generations(3, status="'late'"))
        table.update_incremental()
        return metrics

    monkeypatch.setattr(type(table.optimize), "compact", overtaken)
    compact(TABLE, table, [LABEL])
    assert content(connection)[0][0] == 33


def test_maintenance_removes_only_what_is_old_and_unknown(
    connection: DuckDBPyConnection, lake: Path
) -> None:
    """Old staged, refused and half-written files and old runs go; what may be needed stays."""
    publish(connection, run_of(), TABLE, generations(3))
    publish(connection, run_of(HOUR + timedelta(hours=1)), TABLE, generations(3, status="'x'"))
    before, folder = content(connection), lake / "bronze" / "generations"
    refused = write_files(connection, generations(2), str(folder), CONTRACTS[TABLE].schema)
    half = folder / f"_window_hour={LABEL}" / "part-1.parquet#3"
    half.write_bytes(b"half")
    old, young = sorted((lake / "_runs").iterdir())
    assert maintain(dry_run=False) == []
    for place in (folder / refused[0].path, half, *filter(Path.is_file, old.rglob("*"))):
        os.utime(place, (0, 0))
    planned = maintain(dry_run=True)
    assert half.exists()
    assert {(removal.kind, removal.count) for removal in planned} == {
        ("half_written_files", 1),
        ("unreferenced_files", 1),
        ("run_folders", 1),
    }
    assert all(removal.size_bytes for removal in planned)
    assert maintain(dry_run=False) == planned
    assert not any(place.exists() for place in (half, old, folder / refused[0].path))
    assert young.exists()
    assert content(connection) == before
    assert maintain(dry_run=False) == []


def test_maintenance_compacts_the_ledger_to_which_each_run_adds_a_file(
    connection: DuckDBPyConnection,
) -> None:
    """Its rows, which say what is missing, stay."""
    for number in range(10):
        run = run_of(HOUR + timedelta(hours=number))
        publish(connection, run, TABLE, generations(3, status=f"'{number}'"))
        close_run(run)
    ledger = open_table("ops.window_ledger")
    before = ledger.to_pyarrow_table().sort_by("run_id")
    assert len(ledger.file_uris()) == 10
    maintain(dry_run=True)
    ledger.update_incremental()
    assert len(ledger.file_uris()) == 10
    maintain(dry_run=False)
    ledger.update_incremental()
    assert len(ledger.file_uris()) == 1
    assert ledger.to_pyarrow_table().sort_by("run_id") == before


def test_vacuum_leaves_a_reader_its_files(connection: DuckDBPyConnection) -> None:
    """A reader that pinned a version before compaction and vacuum reads it to the end."""
    for number in range(10):
        publish(connection, run_of(), TABLE, generations(3, status=f"'{number}'"))
    before = content(connection)
    pinned = scan(open_table(TABLE), TABLE)
    reader = connection.cursor().execute(f"from ({pinned})").to_arrow_reader(1)
    first = reader.read_next_batch()
    optimize_layer("bronze")
    maintain(dry_run=False)
    assert first.num_rows + sum(batch.num_rows for batch in reader) == before[0][0] == 30
    assert connection.execute(f"select count(*) from ({pinned})").fetchall() == [(30,)]
