"""A build that dies at any write or commit leaves old or new rows; the next one repairs it."""

from __future__ import annotations

import signal

import pytest

from include.chimera.lake.delta.tables import open_table
from include.chimera.relation import Relation
from include.chimera.settings import get_settings
from tests.integration.lake.conftest import TABLE, Process
from tests.integration.lake.delta.deaths import Died, dying_at, run, run_killed
from tests.versions import rows_of_version

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("versions")]

OLD = {"query": "select i as id, i % 2 as part, 'old' as state from range(4) r(i)"}
NEW = {"query": "select i as id, i % 3 as part, 'new' as state from range(2, 6) r(i)"}
BY_PART = {"partition_by": ("part",)}
MORE = {
    "description": "One row per id.",
    "properties": {"delta.logRetentionDuration": "interval 3 days"},
    "checks": {"fresh": "state = 'new'"},
}
KEY = {"how": {"keys": ("id",)}}
LATE = f"select * from ({NEW['query']}) where id > (select max(id) from {TABLE})"
BATCH = "select *, timestamp '2026-01-01' as seen_at from ({})"
WINDOW = {"event_time": "seen_at", "begin": "2026-01-01", "end": "2026-01-02"}
SNAPSHOT = {"how": {"keys": ("id",), "valid_to": "ended"}}
ENDED = """select i as id, 0 as part, 'ended' as state, timestamp '2026-01-02' as ended,
           'update' as dbt_change_type from range(2) r(i)"""

BUILDS = {
    "a new table": (None, NEW),
    "a new table in partitions": (None, NEW | BY_PART | MORE),
    "table": (OLD, NEW),
    "other partitions": (OLD, NEW | BY_PART),
    "no partitions any more": (OLD | BY_PART, NEW),
    "other columns": (OLD, {"query": f"select *, now() as at from ({NEW['query']})"} | BY_PART),
    "comment, property, constraint": (OLD, NEW | MORE),
    "append": (OLD, {"query": LATE, "strategy": "append", "reads_itself": True}),
    "merge": (OLD | BY_PART, NEW | KEY | {"strategy": "merge"}),
    "merge with another column": (
        OLD,
        {
            "query": f"select *, timestamp '2026-01-01' as at from ({NEW['query']})",
            "strategy": "merge",
            "on_schema_change": "append_new_columns",
        }
        | KEY,
    ),
    "sync all columns": (
        OLD | BY_PART,
        {
            "query": f"select id, part, 1 as other from ({NEW['query']})",
            "strategy": "merge",
            "on_schema_change": "sync_all_columns",
        }
        | KEY,
    ),
    "delete+insert": (OLD | BY_PART, NEW | KEY | {"strategy": "delete+insert"}),
    "microbatch": (
        {"query": BATCH.format(OLD["query"])},
        {"query": BATCH.format(NEW["query"]), "strategy": "microbatch", "how": WINDOW},
    ),
    "snapshot": (
        {"query": f"select *, null::timestamp as ended from ({OLD['query']})"},
        {"query": ENDED, "strategy": "snapshot"} | SNAPSHOT,
    ),
    "view to table": ({"view": OLD["query"]}, NEW),
    "table to view": (OLD, {"view": NEW["query"]}),
}


@pytest.fixture
def new_lake(tmp_path, monkeypatch, versions):
    """Return a function that points the settings at a new, empty lake and returns its folder."""
    count = iter(range(100))

    def point() -> str:
        folder = tmp_path / str(next(count))
        monkeypatch.setenv("CHIMERA_STATE_DIR", str(folder))
        get_settings.cache_clear()
        versions.add(folder / "lake")
        return str(folder)

    yield point
    get_settings.cache_clear()


def visible() -> list[tuple] | None:
    """Return the rows that a newly started process finds, None if the relation does not exist."""
    process = Process()
    if process.session.catalog.kind(Relation.of(TABLE)) is None:
        return None
    return process.rows(f"select id, part from {TABLE} order by all")


def built(build: dict | None) -> list[tuple] | None:
    if build is not None:
        run(Process(), build)
    return visible()


def all_versions() -> list[list[tuple]]:
    """Return the rows of each version of the table, None for no table."""
    table = open_table(TABLE)
    newest = -1 if table is None else table.version()
    return [rows_of_version(TABLE, version, "id, part") for version in range(newest + 1)]


def check_death(new_lake, before, change, number, run_dying) -> list[tuple] | None:
    """Let a build die and run it again; return the rows that were visible in between."""
    folder = new_lake()
    old = built(before)
    run_dying(change, number, folder)
    left = visible()
    versions = all_versions()
    run(Process(), change)
    after = visible()
    assert left in (old, after), f"moment {number}"
    assert all(rows in (old, after) for rows in versions), f"moment {number}"
    return after


def raise_at(change, number, folder) -> None:
    del folder
    with pytest.raises(Died), dying_at(number):
        run(Process(), change)


def kill_at(change, number, folder) -> None:
    assert run_killed(change, number, folder) == -signal.SIGKILL


# Of each way to commit, one that every change waits for: rows, a schema, partitions, another kind.
SHORT = {"merge", "other columns", "no partitions any more", "view to table"}
LONG = pytest.mark.long


@pytest.mark.parametrize(
    "how", [raise_at, pytest.param(kill_at, marks=LONG)], ids=["raise", "kill"]
)
@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=LONG) for name in BUILDS]
)
def test_a_death_at_any_moment_leaves_old_rows_or_new_ones(new_lake, name, how):
    before, change = BUILDS[name]
    new_lake()
    built(before)
    with dying_at(None) as moments:
        run(Process(), change)
    expected = visible()
    assert len(moments) >= 4
    for number in range(len(moments)):
        assert check_death(new_lake, before, change, number, how) == expected, moments[number]
