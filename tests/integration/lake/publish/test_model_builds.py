"""Models: what a build replaces, and what happens when two builds meet."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from duckdb import DuckDBPyConnection

from include.chimera.errors import CommitConflictError, ContractError
from include.chimera.lake.delta.columns import comments_of, with_comments
from include.chimera.lake.delta.lineage import (
    Plan,
    changes_since,
    consumed_mark,
    identity_of,
    plan,
)
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Partitions, Whole
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import begin_table, open_table
from include.chimera.lake.publish.model_builds import commit_build
from include.chimera.lake.publish.new_rows import rows_brought
from include.chimera.lake.staged.manifests import Build
from include.chimera.lake.store.places import folder_of
from tests.builders import HOUR, LABEL, generations, publish, run_of
from tests.versions import Versions

pytestmark = pytest.mark.integration

MODEL, PARENT = "gold.fct", "bronze.generations"
NEXT, THIRD = "20260101T06", "20260101T07"


def parent_identity() -> str:
    """Return the parent's identity in marks; most tests need no parent table."""
    parent = open_table(PARENT)
    return identity_of(PARENT, parent) if parent else PARENT


def build(
    connection: DuckDBPyConnection,
    values: dict[str, int],
    replaced: list[str] | None,
    base: DeltaTable | None,
    read: int,
) -> Build:
    """Stage a model with one row per hour of `values`, built from a parent's version `read`."""
    rows = ", ".join(f"('{hour}', {value})" for hour, value in values.items())
    query = f"select * from (values {rows}) as t (_window_hour, value)"
    columns = connection.execute(f"{query} limit 0").to_arrow_table().schema
    begin_table(MODEL)
    files = write_files(connection, query, folder_of(MODEL), columns, ["_window_hour"])
    schema = Schema.from_arrow(columns).to_json()
    planned = Plan(base.version() if base else None, {parent_identity(): read}, None)
    replaces = Whole() if replaced is None else Partitions("_window_hour", tuple(replaced))
    return Build(MODEL, files, schema, ["_window_hour"], replaces, planned, f"invocation {read}")


def live(connection: DuckDBPyConnection) -> dict[str, int]:
    """Return the model's rows."""
    return dict(connection.execute(f"from ({scan(open_table(MODEL), MODEL)})").fetchall())


def consumed() -> int | None:
    """Return the parent's version that the model has consumed."""
    return open_table(MODEL).transaction_version(consumed_mark(PARENT))


def test_a_build_replaces_its_hours_and_keeps_the_others(connection: DuckDBPyConnection) -> None:
    """Also an hour that has become empty."""
    first = commit_build(build(connection, {LABEL: 1, NEXT: 1, THIRD: 1}, None, None, 1), None)
    second = build(connection, {NEXT: 2}, [NEXT, THIRD], first, 2)
    commit_build(second, run_of())
    assert live(connection) == {LABEL: 1, NEXT: 2}
    assert consumed() == 2


def brought(staged: Build, before: DeltaTable) -> int | None:
    """Commit, and count the rows that are new since the table's state before."""
    return rows_brought(staged, before, commit_build(staged, None).version())


def test_rows_that_a_build_wrote_again_are_not_new(connection: DuckDBPyConnection) -> None:
    """Each run rewrites its hours: once it reported all of their rows as published."""
    first = build(connection, {LABEL: 1, NEXT: 1, THIRD: 1}, None, None, 1)
    table = commit_build(first, None)
    assert rows_brought(first, None, table.version()) == 3
    before = open_table(MODEL)
    for values, replaced, new in (
        ({LABEL: 1, NEXT: 1}, [LABEL, NEXT], 0),
        ({LABEL: 1, NEXT: 2}, [LABEL, NEXT], 1),
        ({LABEL: 1, NEXT: 2, THIRD: 1}, None, 0),
        ({NEXT: 2}, [NEXT, THIRD], 0),
    ):
        again = build(connection, values, replaced, before, 2)
        assert brought(again, before) == new
        before = open_table(MODEL)


def test_a_build_that_others_overtook_brings_only_what_was_committed(
    connection: DuckDBPyConnection,
) -> None:
    commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), None)
    before = open_table(MODEL)
    slow = build(connection, {LABEL: 20, NEXT: 20}, [LABEL, NEXT], before, 2)
    commit_build(build(connection, {NEXT: 30}, [NEXT], before, 3), None)
    assert brought(slow, before) == 1


@pytest.mark.usefixtures("damaged")
def test_what_a_build_brings_is_unknown_where_files_are_gone(
    connection: DuckDBPyConnection,
) -> None:
    """The commit stands; the count is unknown, not zero."""
    commit_build(build(connection, {LABEL: 1}, None, None, 1), None)
    before = open_table(MODEL)
    for uri in before.file_uris():
        Path(uri).unlink()
    again = build(connection, {LABEL: 1}, [LABEL], before, 2)
    assert brought(again, before) is None


def test_hours_replaced_by_a_newer_build_are_left_out(connection: DuckDBPyConnection) -> None:
    """A slow build from older parents must not overwrite a faster one from newer parents."""
    base = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), None)
    slow = build(connection, {LABEL: 20, NEXT: 20}, [LABEL, NEXT], base, 2)
    commit_build(build(connection, {NEXT: 30}, [NEXT], base, 3), None)
    commit_build(slow, None)
    assert live(connection) == {LABEL: 20, NEXT: 30}
    assert consumed() == 3


def test_a_whole_table_from_older_parents_is_superseded(connection: DuckDBPyConnection) -> None:
    """Two runs build the same small table: the one that read less does not win."""
    base = commit_build(build(connection, {LABEL: 1}, None, None, 1), None)
    slow = build(connection, {LABEL: 2}, None, base, 2)
    commit_build(build(connection, {LABEL: 3}, None, base, 3), None)
    version = open_table(MODEL).version()
    assert commit_build(slow, None).version() == version
    assert live(connection) == {LABEL: 3}


def test_a_build_that_found_no_parent_does_not_replace_one_that_did(
    connection: DuckDBPyConnection,
) -> None:
    """An empty lake's first two runs: one built before the other's rows came, and commits last."""
    slow = build(connection, {THIRD: 9}, None, None, 0)
    slow = replace(slow, plan=replace(slow.plan, consumed={}))
    made = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), run_of())
    assert commit_build(slow, run_of()).version() == made.version()
    assert live(connection) == {LABEL: 1, NEXT: 1}


def test_a_whole_rebuild_keeps_the_hours_that_a_newer_build_made(
    connection: DuckDBPyConnection,
) -> None:
    """`--full-refresh` from older parents: it replaces the rest, and its marks do not go back."""
    base = commit_build(build(connection, {LABEL: 1, NEXT: 1, THIRD: 1}, None, None, 1), None)
    slow = build(connection, {LABEL: 20, NEXT: 20}, None, base, 2)
    commit_build(build(connection, {NEXT: 30}, [NEXT], base, 3), None)
    commit_build(slow, None)
    assert live(connection) == {LABEL: 20, NEXT: 30}
    assert consumed() == 3


@pytest.mark.parametrize("replaced", [None, [LABEL]])
def test_a_gate_that_died_after_its_commit_commits_no_file_twice(
    connection: DuckDBPyConnection, replaced: list[str] | None
) -> None:
    """A file that one commit adds and removes is there for some readers and gone for others."""
    base = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), run_of())
    staged = build(connection, {LABEL: 2}, replaced, base, 2)
    first = commit_build(staged, run_of())
    again = commit_build(staged, run_of())
    assert again.version() == first.version() == base.version() + 1
    assert live(connection)[LABEL] == 2


def test_a_newer_build_that_moved_no_mark_is_newer_all_the_same(
    connection: DuckDBPyConnection,
) -> None:
    """It lost one hour to a third build, so its mark did not advance; its other hour must stay."""
    base = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), None)
    whole = build(connection, {LABEL: 20, NEXT: 20}, None, base, 2)
    newer = build(connection, {LABEL: 40, NEXT: 40}, [LABEL, NEXT], base, 4)
    commit_build(build(connection, {NEXT: 2}, [NEXT], base, 2), None)
    commit_build(newer, None)
    commit_build(whole, None)
    assert live(connection) == {LABEL: 40, NEXT: 2}
    assert consumed() == 2


def test_a_whole_rebuild_with_other_columns_is_built_again_when_overtaken(
    connection: DuckDBPyConnection,
) -> None:
    """One table can't hold hours with old and with new columns."""
    base = commit_build(build(connection, {LABEL: 1}, None, None, 1), None)
    slow = build(connection, {LABEL: 2}, None, base, 2)
    other = pa.schema([("_window_hour", pa.string()), ("value", pa.string())])
    slow = replace(slow, schema=Schema.from_arrow(other).to_json())
    commit_build(build(connection, {NEXT: 3}, [NEXT], base, 3), None)
    with pytest.raises(CommitConflictError, match="newer parents"):
        commit_build(slow, None)
    assert live(connection) == {LABEL: 1, NEXT: 3}


def repartitioned(
    connection: DuckDBPyConnection, value: int, base: DeltaTable, read: int, by: Sequence[str] = ()
) -> Build:
    """Stage the model whole, partitioned by other columns."""
    staged = build(connection, {LABEL: value}, None, base, read)
    query = f"select '{LABEL}' as _window_hour, {value} as value"
    columns = connection.execute(f"{query} limit 0").to_arrow_table().schema
    files = write_files(connection, query, folder_of(MODEL), columns, by)
    return replace(staged, files=files, partition_by=list(by))


def test_other_partitions_replace_the_table(connection: DuckDBPyConnection) -> None:
    """A model's config changed; an hour of the old kind does not fit any more."""
    base = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), None)
    hourly = build(connection, {NEXT: 3}, [NEXT], base, 3)
    whole = commit_build(repartitioned(connection, 2, base, 2), None)
    assert whole.metadata().partition_columns == []
    assert live(connection) == {LABEL: 2}
    assert commit_build(hourly, None).version() == whole.version()
    with pytest.raises(ContractError, match="partitions"):
        commit_build(build(connection, {NEXT: 3}, [NEXT], whole, 3), None)
    assert live(connection) == {LABEL: 2}


def test_other_partitions_from_older_parents_leave_the_table_as_it_is(
    connection: DuckDBPyConnection,
) -> None:
    """A build that is refused neither empties nor repartitions the table."""
    base = commit_build(build(connection, {LABEL: 1}, None, None, 1), None)
    slow = repartitioned(connection, 2, base, 2)
    newer = commit_build(build(connection, {LABEL: 3, NEXT: 3}, None, base, 3), None)
    assert commit_build(slow, None).version() == newer.version()
    assert live(connection) == {LABEL: 3, NEXT: 3}


def test_other_partitions_are_built_again_when_an_hour_was_newer(
    connection: DuckDBPyConnection,
) -> None:
    """One table can't hold both."""
    base = commit_build(build(connection, {LABEL: 1}, None, None, 1), None)
    slow = repartitioned(connection, 2, base, 2, by=["value"])
    commit_build(build(connection, {NEXT: 3}, [NEXT], base, 3), None)
    with pytest.raises(CommitConflictError, match="newer parents"):
        commit_build(slow, None)
    assert live(connection) == {LABEL: 1, NEXT: 3}


def test_builds_that_race_leave_the_newest_rows_of_each_hour(
    connection: DuckDBPyConnection, versions: Versions
) -> None:
    """Whole and hourly builds from several parent versions commit at once: no row gets older."""
    versions.may_shrink.add(MODEL)
    for turn in range(4):
        base = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, turn * 10), None)
        staged = [
            build(connection, {LABEL: 2, NEXT: 2}, None, base, turn * 10 + 2),
            build(connection, {NEXT: 3}, [NEXT], base, turn * 10 + 3),
            build(connection, {NEXT: 4, THIRD: 4}, [NEXT, THIRD], base, turn * 10 + 4),
        ]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda one: commit_build(one, None), staged))
        seen = [
            dict(connection.execute(f"from ({scan(open_table(MODEL, version), MODEL)})").fetchall())
            for version in range(base.version(), open_table(MODEL).version() + 1)
        ]
        for hour in (LABEL, NEXT):
            values = [rows[hour] for rows in seen]
            assert values == sorted(values), "an older build overwrote a newer one"
        # Where the whole one superseded the others, the mark says so: the next run makes up for it.
        assert seen[-1][NEXT] >= 3 or consumed() == turn * 10 + 2


def test_a_model_recomputes_what_its_parents_commits_touched(
    connection: DuckDBPyConnection,
) -> None:
    """Since the version it consumed, and its run's own window."""
    publish(connection, run_of(), PARENT, generations(2))
    seen = open_table(PARENT)
    own = commit_build(build(connection, {LABEL: 1}, None, None, seen.version()), None)
    late = generations(1, updated_at="created_at + interval 2 hours")
    publish(connection, run_of(), PARENT, late)
    run = run_of(HOUR + timedelta(hours=1))
    planned = plan(own, {PARENT: open_table(PARENT)}, run)
    assert planned.touched == {LABEL, NEXT}
    assert planned.arrived == {PARENT: {THIRD}}
    assert plan(own, {PARENT: seen}, None).touched == frozenset()


def test_a_commit_that_is_not_ours_could_have_touched_anything(
    connection: DuckDBPyConnection,
) -> None:
    """After manual deletions everything is recomputed; a compaction touches nothing."""
    publish(connection, run_of(), PARENT, generations(2))
    publish(connection, run_of(), PARENT, generations(2, status="'failed'"))
    parent = open_table(PARENT)
    own = commit_build(build(connection, {LABEL: 1}, None, None, parent.version()), None)
    parent.optimize.compact()
    assert plan(own, {PARENT: open_table(PARENT)}, None).touched == frozenset()
    open_table(PARENT).delete("generation_id = 'g1'")
    assert plan(own, {PARENT: open_table(PARENT)}, None).touched is None


def test_new_words_come_with_the_next_rows_and_rewrite_no_others(
    connection: DuckDBPyConnection,
) -> None:
    """An hour's build brings the comments that dbt's files have now, in its own one version."""
    first = commit_build(build(connection, {LABEL: 1, NEXT: 1}, None, None, 1), None)
    kept = {file for file in open_table(MODEL).file_uris() if LABEL in file}

    def told(base: DeltaTable, value: int) -> DeltaTable:
        staged = build(connection, {NEXT: value}, [NEXT], base, value)
        schema = with_comments(Schema.from_json(staged.schema), {"value": "A number."}).to_json()
        return commit_build(replace(staged, schema=schema, description="One row."), run_of())

    second = told(first, 2)
    assert second.version() == first.version() + 1
    assert live(connection) == {LABEL: 1, NEXT: 2}
    assert second.metadata().description == "One row."
    assert comments_of(second.schema()) == {"value": "A number."}
    assert kept < set(open_table(MODEL).file_uris())
    assert changes_since(second, first.version()).touched == {NEXT}
    told(second, 3)
    log = Path(folder_of(MODEL)) / "_delta_log"
    assert '"metaData"' in (log / f"{1:020d}.json").read_text()
    assert '"metaData"' not in (log / f"{2:020d}.json").read_text()
