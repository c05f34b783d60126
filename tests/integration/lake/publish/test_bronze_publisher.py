"""Bronze: publishing a batch twice changes nothing, and the row counts balance."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from duckdb import DuckDBPyConnection

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import CountError, ShrinkError
from include.chimera.lake.delta.commits import Change, commit
from include.chimera.lake.delta.lineage import ARRIVED, TOUCHED
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Append
from include.chimera.lake.delta.scans import live_rows, scan
from include.chimera.lake.delta.tables import create_table, open_table
from include.chimera.lake.publish.bronze_publisher import WATERMARK, Publisher
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import attempt_folder
from include.chimera.lake.staged.stage_rows import rows_of
from include.chimera.lake.store.places import folder_of
from tests.builders import HOUR, LABEL, api_logs, generations, publish, run_of, stage, typed_query

pytestmark = pytest.mark.integration

GENERATIONS, LOGS, MODELS = "bronze.generations", "bronze.api_logs", "bronze.models"
EVALUATIONS = "bronze.evaluations"
NEXT_LABEL = "20260101T06"


def rows(connection: DuckDBPyConnection, table: str, columns: str = "*") -> list[tuple]:
    """Return the live rows of a table."""
    found = scan(open_table(table), table)
    return sorted(connection.execute(f"select {columns} from ({found})").fetchall())


def test_publish_versions_twice_leaves_the_same_table(connection: DuckDBPyConnection) -> None:
    """A retry reads the same rows: all of them are duplicates."""
    first = publish(connection, run_of(), GENERATIONS, generations(50))
    before = rows(connection, GENERATIONS)
    again = publish(connection, run_of(), GENERATIONS, generations(50))
    assert (first.rows_published, first.rows_duplicate) == (50, 0)
    assert (again.rows_published, again.rows_duplicate, again.version) == (0, 50, first.version)
    assert rows(connection, GENERATIONS) == before


def test_publish_versions_keeps_each_version_of_a_key(connection: DuckDBPyConnection) -> None:
    """An update adds a version; the old one stays, in whichever order they come."""
    late = generations(3, updated_at="created_at + interval 1 hour", status="'failed'")
    publish(connection, run_of(), GENERATIONS, late)
    publish(connection, run_of(), GENERATIONS, generations(3))
    assert rows(connection, GENERATIONS, "generation_id, status, _window_hour") == [
        (f"g{number}", status, hour)
        for number in range(3)
        for status, hour in (("failed", NEXT_LABEL), ("succeeded", LABEL))
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0, 1)])
def test_publish_versions_in_any_order_gives_the_same_set(
    connection: DuckDBPyConnection, order: tuple[int, ...]
) -> None:
    """Retries and backfills overlap: the table is the union of what they read."""
    later = "created_at + interval 1 hour"
    batches = [
        generations(4),
        f"{generations(6)} union all {generations(2, updated_at=later)}",
        generations(3, updated_at=later, status="'failed'"),
    ]
    for number in order:
        publish(connection, run_of(), GENERATIONS, batches[number])
    found = rows(connection, GENERATIONS, "generation_id, status, _window_hour")
    assert found == sorted(
        [(f"g{number}", "succeeded", LABEL) for number in range(6)]
        + [(f"g{number}", "succeeded", NEXT_LABEL) for number in range(2)]
        + [(f"g{number}", "failed", NEXT_LABEL) for number in range(3)]
    )


def test_publish_versions_takes_one_of_equal_rows_in_a_batch(
    connection: DuckDBPyConnection,
) -> None:
    """If a source returns a row twice in one read, it is published once."""
    twice = f"{generations(5)} union all {generations(5)}"
    published = publish(connection, run_of(), GENERATIONS, twice)
    assert (published.rows_read, published.rows_published, published.rows_duplicate) == (10, 5, 5)


def test_publish_versions_says_which_event_hours_it_touched(
    connection: DuckDBPyConnection,
) -> None:
    """A late update touches the hour of its creation and arrives in the hour of its update."""
    late = generations(2, updated_at="created_at + interval 1 hour")
    publish(connection, run_of(), GENERATIONS, late)
    (entry,) = open_table(GENERATIONS).history(1)
    assert (entry[TOUCHED], entry[ARRIVED]) == (f'["{LABEL}"]', f'["{NEXT_LABEL}"]')


def test_publish_versions_adopts_the_staged_files_of_hours_that_the_table_lacks(
    connection: DuckDBPyConnection, lake: Path
) -> None:
    """Of two hours the table holds one: its new rows are selected, the other's file is copied."""
    publish(connection, run_of(), GENERATIONS, generations(3))
    later = generations(4, HOUR + timedelta(hours=1))
    both = f"{generations(5)} union all {later}"
    batch = stage(connection, run_of(run_id="again"), GENERATIONS, both)
    run = run_of(run_id="again")
    published = Publisher(connection, batch, rows_of(run, batch), run).publish(0)
    assert (published.rows_published, published.rows_duplicate) == (6, 3)
    (staged,) = Path(attempt_folder(run, batch)).glob(f"*={NEXT_LABEL}/*")
    (live,) = (lake / "bronze" / "generations").glob(f"*={NEXT_LABEL}/*")
    assert live.read_bytes() == staged.read_bytes()
    assert live.name != staged.name
    assert len(rows(connection, GENERATIONS)) == 9


def test_watermark_only_moves_forward_and_not_by_backfills(
    connection: DuckDBPyConnection,
) -> None:
    """It is set by the data's own commit; an older run or a backfill does not change it."""

    def mark_after(watermark: int, *, moves: bool = True) -> int | None:
        run = run_of(moves_watermark=moves)
        publish(connection, run, GENERATIONS, generations(1), watermark=watermark)
        return open_table(GENERATIONS).transaction_version(WATERMARK)

    assert [mark_after(100), mark_after(90), mark_after(200, moves=False)] == [100, 100, 100]
    assert mark_after(200) == 200


def test_publish_events_replaces_only_the_hours_that_changed(
    connection: DuckDBPyConnection,
) -> None:
    """A late line rewrites its own hour; the other hour keeps its file."""
    hours = [LABEL, NEXT_LABEL]
    both = f"{api_logs(4)} union all {api_logs(4, HOUR + timedelta(hours=1), _offset='i + 100')}"
    publish(connection, run_of(), LOGS, both, hours=hours)
    late = f"{both} union all {api_logs(1, _offset='999')}"
    published = publish(connection, run_of(), LOGS, late, hours=hours)
    assert (published.rows_published, published.rows_duplicate) == (1, 8), "rewritten is not new"
    (entry,) = open_table(LOGS).history(1)
    assert entry[TOUCHED] == f'["{LABEL}"]'
    assert len(rows(connection, LOGS)) == 9


def test_publish_events_again_commits_nothing(connection: DuckDBPyConnection) -> None:
    """Row order and file layout do not count as a change."""
    first = publish(connection, run_of(), LOGS, api_logs(9), hours=[LABEL])
    shuffled = f"select * from ({api_logs(9)}) order by _offset desc"
    again = publish(connection, run_of(), LOGS, shuffled, hours=[LABEL])
    assert (again.version, again.rows_duplicate) == (first.version, 9)


def test_an_hour_does_not_shrink_unless_allowed(connection: DuckDBPyConnection) -> None:
    """Rotated logs must not take published rows away."""
    publish(connection, run_of(), LOGS, api_logs(9), hours=[LABEL])
    with pytest.raises(ShrinkError, match="at least the 9 rows"):
        publish(connection, run_of(), LOGS, api_logs(8), hours=[LABEL])
    assert len(rows(connection, LOGS)) == 9
    publish(connection, run_of(), LOGS, api_logs(8), hours=[LABEL], allow_shrink=True)
    assert len(rows(connection, LOGS)) == 8


def models(*ids: str) -> str:
    """Return a query of models."""
    return (
        f"select unnest({list(ids)}) as model_id, 'acme' as provider_id, 'm' as name, "
        "1.0::double as input_usd_per_mtok, 1.0::double as output_usd_per_mtok, "
        "8192::bigint as context_tokens, true as is_enabled, "
        "timestamptz '2026-01-01' as updated_at, 'h' as _row_hash"
    )


def test_publish_reference_replaces_the_whole_table_where_it_changed(
    connection: DuckDBPyConnection,
) -> None:
    """A model removed from the platform leaves the table; an unchanged list makes no version."""
    first = publish(connection, run_of(), MODELS, models("m1", "m2"))
    again = publish(connection, run_of(), MODELS, models("m2", "m1"))
    assert (again.version, again.rows_published, again.rows_duplicate) == (first.version, 0, 2)
    changed = publish(connection, run_of(), MODELS, models("m2", "m3"))
    assert (changed.version, changed.rows_published) == (first.version + 1, 1)
    assert changed.rows_duplicate == 1, "rewritten, and as it was"
    assert rows(connection, MODELS, "model_id") == [("m2",), ("m3",)]


def test_counts_that_do_not_add_up_are_an_error(connection: DuckDBPyConnection) -> None:
    """Rows read = published + refused + duplicates; otherwise rows were lost."""
    batch = replace(stage(connection, run_of(), GENERATIONS, generations(3)), rows_read=4)
    with pytest.raises(CountError, match="4 rows read"):
        Publisher(connection, batch, generations(3), run_of()).publish(0)


def test_an_attempt_after_a_commit_outranks_it_whatever_the_clocks_say(
    connection: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the machine that published first was an hour ahead of the next reader's."""
    ahead = time.time_ns() + 3_600_000_000_000
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: ahead)
        publish(connection, run_of(), LOGS, api_logs(2), hours=[LABEL])
    again = publish(connection, run_of(run_id="again"), LOGS, api_logs(3), hours=[LABEL])
    assert again.rows_published == 1


def test_an_attempt_outranks_those_that_began_before_it_whatever_the_clocks_say(
    connection: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's clock is an hour ahead; it reads early, stages late, and replaces nothing."""
    ahead = time.time_ns() + 3_600_000_000_000
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: ahead)
        early = stage(connection, run_of(), LOGS, api_logs(2), hours=[LABEL])
    publish(connection, run_of(run_id="next"), LOGS, api_logs(3), hours=[LABEL])
    late = Publisher(connection, early, rows_of(run_of(), early), run_of()).publish(0)
    assert late.rows_published == 0
    assert len(rows(connection, LOGS)) == 3


def test_no_two_attempts_have_one_token(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the clock stands still and eight draw at once; a day later the files are deleted."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: draw_token(LOGS), range(64)))
    assert len({*drawn}) == 64
    assert draw_token(LOGS) > max(drawn)
    monkeypatch.setattr(time, "time_ns", lambda: 2 * 86_400 * 10**9)
    newest = draw_token(LOGS)
    assert [int(file.name) for file in (lake / "_tokens" / LOGS).iterdir()] == [newest]


def test_publish_adds_the_columns_that_an_older_release_lacked(
    connection: DuckDBPyConnection,
) -> None:
    """Rows of before have nulls there; until then the table is read as if it had the columns."""
    contract = CONTRACTS[EVALUATIONS]
    old = pa.schema([column for column in contract.schema if column.name not in contract.extras])
    table = create_table(EVALUATIONS, old, list(contract.partition_by))
    (kept,) = write_files(
        connection,
        f"select {', '.join(old.names)} from ({evaluations(1)})",
        folder_of(EVALUATIONS),
        old,
        contract.partition_by,
    )
    commit(EVALUATIONS, lambda: table, lambda _: Change([kept], Append()))
    before = connection.execute(live_rows(open_table(EVALUATIONS), contract)).fetchall()
    assert len(before) == 1
    publish(connection, run_of(), EVALUATIONS, evaluations(2, passes="7"))
    assert rows(connection, EVALUATIONS, "evaluation_id, coalesce(passes, -1)") == [
        ("e0", -1),
        ("e0", 7),
        ("e1", 7),
    ]
    again = publish(connection, run_of(), EVALUATIONS, evaluations(2, passes="7"))
    assert again.rows_published == 0


def evaluations(count: int, **columns: str) -> str:
    """Return a query of evaluations e0, e1, …; columns are SQL over `i`."""
    values = {
        "evaluation_id": "'e' || i",
        "created_at": f"timestamptz '{HOUR.isoformat()}'",
        "updated_at": "created_at",
        "status": "'completed'",
        "_row_hash": f"md5(i || {'|'.join(columns.values())!r})",
        "_is_deleted": "false",
        "_window_hour": f"'{LABEL}'",
    }
    nulls = dict.fromkeys(CONTRACTS[EVALUATIONS].schema.names, "null")
    return typed_query(EVALUATIONS, {**nulls, **values, **columns}, count)
