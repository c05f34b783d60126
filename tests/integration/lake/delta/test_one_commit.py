"""A build becomes visible at once: one version with its rows and all other changes."""

from __future__ import annotations

import json

import pytest
from deltalake import DeltaTable

from include.chimera.lake.delta import commits
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.places import folder_of
from tests.integration.lake.conftest import TABLE
from tests.integration.object_store import forget_settings

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("versions")]

OLD = "select i as id, i % 2 as part, 'old' as state from range(4) r(i)"
NEW = "select i as id, i % 3 as part, 'new' as state from range(6) r(i)"
CHANGES = {
    "other partitions": {"partition_by": ("part",)},
    "no partitions": {"partition_by": ()},
    "a comment": {"description": "One row per id."},
    "comments of columns": {"comments": {"id": "A number."}},
    "properties": {"properties": {"delta.logRetentionDuration": "interval 3 days"}},
    "a constraint that old rows break": {"checks": {"fresh": "state = 'new'"}},
    "a column that may hold no null": {"required": ("id",)},
    "all of them": {
        "partition_by": ("part",),
        "description": "One row per id.",
        "comments": {"id": "A number."},
        "properties": {"delta.logRetentionDuration": "interval 3 days"},
        "checks": {"fresh": "state = 'new'"},
        "required": ("id",),
    },
}
QUERIES = {
    "the same columns": NEW,
    "other columns": f"select id + 1 as number, * from ({NEW})",
    "other types": f"select cast(id as varchar) as id, part, state from ({NEW})",
    "a timestamp without a zone": f"select *, timestamp '2026-01-01' as seen_at from ({NEW})",
}  # fmt: skip


def states(process) -> list[int]:
    """Return how many rows each version holds, by state."""
    name, newest = TABLE, open_table(TABLE).version()
    reader = process()
    query = "select state, count(*) from delta_scan('{}', version => {}) group by all"
    return [
        dict(reader.connection.execute(query.format(folder_of(name), version)).fetchall())
        for version in range(newest + 1)
    ]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_whole_build_is_one_version_whatever_it_changes(process, change, query):
    """No reader meets an empty table, nor new rows under the old table's description."""
    old = ("state",) if query in ("the same columns", "other columns") else ()
    process().build(OLD, partition_by=old, checks={"known": "state in ('old', 'new')"})
    identity = open_table(TABLE).metadata().id
    process().build(QUERIES[query], **CHANGES[change])
    assert states(process) == [{"old": 4}, {"new": 6}]
    table, wanted = open_table(TABLE), CHANGES[change]
    metadata = table.metadata()
    assert metadata.id == identity, "who read the old table would take it for another one"
    assert metadata.partition_columns == list(wanted.get("partition_by", ()))
    assert metadata.description == wanted.get("description")
    assert wanted.get("properties", {}).items() <= metadata.configuration.items()
    found = {name for name in metadata.configuration if name.startswith("delta.constraints")}
    assert found == {f"delta.constraints.{name}" for name in wanted.get("checks", {})}
    fields = {field.name: field for field in table.schema().fields}
    assert fields["id"].nullable is not ("id" in wanted.get("required", ()))
    assert fields["id"].metadata == ({"comment": "A number."} if "comments" in wanted else {})
    assert table.history(1)[0]["model"] == TABLE


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_table_is_one_version(process, change):
    process().build(NEW, **CHANGES[change])
    assert states(process) == [{"new": 6}]


def test_a_column_of_plain_timestamps_comes_in_one_version(process, lake):
    """The protocol that it needs does not come before it."""
    process().build(OLD, partition_by=("part",))
    query = "select 9 as id, 0 as part, 'new' as state, timestamp '2026-01-01' as seen_at"
    process().build(query, "append", on_schema_change="append_new_columns")
    assert states(process) == [{"old": 4}, {"old": 4, "new": 1}]
    entry = lake / "dev" / "model" / "_delta_log" / f"{1:020d}.json"
    kinds = [next(iter(json.loads(line))) for line in entry.read_text().splitlines()]
    assert sorted(set(kinds)) == ["add", "commitInfo", "metaData", "protocol", "txn"]


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path, monkeypatch):
    """Put the lake into a folder, or into a bucket."""
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    if request.param == "bucket":
        for name, value in request.getfixturevalue("object_store").new_lake().items():
            monkeypatch.setenv(name, value)
    forget_settings()
    yield
    forget_settings()


@pytest.mark.usefixtures("place")
def test_a_writer_that_was_first_is_seen_by_the_draft_that_lost(process, monkeypatch):
    """Its row came after the draft: the commit is decided anew, and overwrites no version."""
    process().build(OLD)
    rival, publish = process(), commits.publish_draft

    def lose(*arguments):
        monkeypatch.setattr(commits, "publish_draft", publish)
        rival.build("select 7 as id, 0 as part, 'rival' as state", "append")
        publish(*arguments)

    monkeypatch.setattr(commits, "publish_draft", lose)
    process().build(NEW, partition_by=("part",))
    assert states(process) == [{"old": 4}, {"old": 4, "rival": 1}, {"new": 6}]


def test_a_draft_starts_from_the_last_checkpoint(process, lake):
    """Even if older entries are gone after the log's retention."""
    one = process()
    one.build(OLD)
    for _ in range(3):
        one.build("select 7 as id, 0 as part, 'late' as state", "append")
    DeltaTable(folder_of(TABLE), version=2).create_checkpoint()
    log = lake / "dev" / "model" / "_delta_log"
    for version in range(2):
        (log / f"{version:020d}.json").unlink()
    process().build(NEW, partition_by=("part",))
    assert process().rows(f"select distinct state, count(*) from {TABLE} group by all") == [
        ("new", 6)
    ]
