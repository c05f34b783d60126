"""What a death, a full disk or a lost server leaves behind; docs/faults.md lists them all."""

import json
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.chimera.contracts import GENERATIONS
from include.chimera.errors import (
    GateFailedError,
    SourceUnavailableError,
    StageDamagedError,
    StageMissingError,
)
from include.chimera.fault_points import Step
from include.chimera.lake.staged.manifests import Batch, attempt_folder, load_manifest
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.lake.upkeep.optimization import optimize_layer
from include.chimera.quality.gate import open_gate
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.postgres.sessions import snapshot
from include.chimera.sources.row_versions import typed
from tests.integration.ingest import process
from tests.integration.ingest.pipeline import (
    GENERATION,
    at,
    create_schema,
    current,
    extract,
    ingest,
    insert,
    letters,
    many,
    publish,
    rows,
    run_of,
)
from tests.integration.ingest.servers import PostgresServer

pytestmark = pytest.mark.integration
HOUR_STEPS = [
    step for step in get_args(Step) if step.split(".")[0] in ("extract", "publish", "ledger")
]
LOGS = "bronze.api_logs"
LEDGER = "table_name, rows_read, rows_published, rows_refused, rows_duplicate"


@pytest.mark.parametrize("step", HOUR_STEPS)
def test_a_process_killed_at_any_step_loses_and_doubles_nothing(server, uri, lake, step):
    for number in range(20):
        insert(server, number, at(0, number))
    insert(server, 99, at(0), status="unknown")
    code, _ = process.finish(process.start(uri, 0, "killed", f"{step}=kill", state_dir=lake))
    assert code == -signal.SIGKILL
    seen = rows()
    assert len(seen) in (0, 20)
    process.whole_hour(uri, 0, "killed")
    assert len(current()) == len(rows()) == 20
    assert letters() == [(GENERATION, "gate", "in_set_status")]
    ledger = rows("ops.window_ledger", LEDGER)
    assert {row[:1] for row in ledger} == {(GENERATION,)}
    assert sum(row[2] for row in ledger) == 20
    assert all(row[1] == row[2] + row[3] + row[4] for row in ledger)


def change_a_value(table):
    """Rewrite the data file: as many rows, another cost."""
    (file,) = table.rglob("*.parquet")
    found = pq.read_table(file, partitioning=None)
    place = found.schema.get_field_index("cost_usd")
    other = pa.array([Decimal(1)] * found.num_rows, found.schema.field(place).type)
    pq.write_table(found.set_column(place, found.schema.field(place), other), file)


def change_a_count(table):
    """Rewrite the log's newest entry with another count of published rows."""
    entry = max((table / "_delta_log").glob("*.json"))
    entry.write_text(entry.read_text().replace('"rows_published":"3"', '"rows_published":"2"'))


@pytest.mark.parametrize(
    ("damage", "told"),
    [(change_a_value, "rows or other values"), (change_a_count, "published': 2")],
)
@pytest.mark.usefixtures("damaged")
def test_a_commit_that_is_not_what_was_published_is_noticed(server, uri, lake, damage, told):
    """Before the task succeeds, from the table's history and by reading its hours back."""
    for number in range(3):
        insert(server, number, at(0, number))
    publisher = process.start(uri, 0, "damaged", "publish.committed=stop", state_dir=lake)
    _wait_until_stopped(publisher)
    damage(lake / "lake" / "bronze" / "generations")
    publisher.send_signal(signal.SIGCONT)
    code, error = process.finish(publisher)
    assert code == 1
    assert "VerificationError" in error
    assert told in error


def test_a_zombie_that_wakes_after_its_retry_changes_nothing(server, uri, lake):
    """The retry and the zombie write to separate folders; the newest one counts."""
    insert(server, 1, at(0))
    zombie = process.start(uri, 0, "zombie", "extract.rows_written=stop", state_dir=lake)
    _wait_until_stopped(zombie)
    insert(server, 2, at(0, 1))
    process.whole_hour(uri, 0, "zombie")
    before = rows()
    zombie.send_signal(signal.SIGCONT)
    code, error = process.finish(zombie)
    assert code == 0, error
    assert rows() == before
    assert len(before) == 2


def test_an_older_attempt_never_replaces_an_hour_that_a_newer_one_published(tmp_path):
    write_log(tmp_path, "old")
    older = extract_api_logs(log_root(str(tmp_path)), run_of(0, "older"))
    write_log(tmp_path, "new")
    newer = extract_api_logs(log_root(str(tmp_path)), run_of(0, "newer"))
    first = publish(run_of(0, "newer"), LOGS, newer)
    late = publish(run_of(0, "older"), LOGS, older)
    assert rows(LOGS, "message") == [("new",)]
    assert (late.rows_published, late.rows_duplicate, late.version) == (0, 1, first.version)


def write_log(root, message):
    folder = root / "dt=2026-01-05" / "hour=08"
    folder.mkdir(parents=True, exist_ok=True)
    line = {"timestamp": "2026-01-05T08:00:00Z", "message": message}
    (folder / "api.jsonl").write_text(json.dumps(line) + "\n")


def _wait_until_stopped(child):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "T":
            return
        time.sleep(0.05)
    pytest.fail("the process did not reach its fault point")


def test_the_same_hour_twice_at_once_is_published_once(server, uri, lake):
    for number in range(50):
        insert(server, number, at(0, number))
    both = [process.start(uri, 0, f"run {number}", state_dir=lake) for number in range(2)]
    for child in both:
        code, error = process.finish(child)
        assert code == 0, error
    assert len(rows()) == 50
    assert sum(row[2] for row in rows("ops.window_ledger", LEDGER)) == 50


def test_two_backfills_and_the_schedule_at_once_give_the_in_order_table(server, uri, lake):
    for number in range(30):
        insert(server, number, at(number % 3, number))
    started = [process.start(uri, number, f"run {number}", state_dir=lake) for number in range(3)]
    for child in started:
        code, error = process.finish(child)
        assert code == 0, error
    assert len(rows()) == len(current()) == 30


def test_compaction_beside_two_hours_loses_and_doubles_nothing(server, uri, lake, configure):
    """The second committer retries, or leaves it to the next upkeep; neither fails."""
    configure(state_dir=lake, compact_files=2)
    for number in range(40):
        insert(server, number, at(number % 4, number))
    for number in (0, 1):
        process.whole_hour(uri, number, f"before {number}")
    insert(server, 40, at(0, 999))
    started = [process.start(uri, number, f"run {number}", state_dir=lake) for number in (0, 2, 3)]
    while any(child.poll() is None for child in started):
        optimize_layer("bronze")
        optimize_layer("ops")
    for child in started:
        code, error = process.finish(child)
        assert code == 0, error
    assert len(rows()) == len(current()) == 41
    assert len(rows("ops.window_ledger", LEDGER)) == 5


def test_postgres_restarted_while_it_is_read_is_an_outage_that_a_retry_mends():
    """The driver's error, in the middle of a stream, passes DuckDB and becomes one of ours."""
    server = PostgresServer()
    server.start()
    try:
        create_schema(server)
        server.execute(many(0, 200_000))
        with pytest.raises(SourceUnavailableError) as caught:
            _stage_and_kill(server)
        assert caught.value.where == "Airflow connection app_db"
        with pytest.raises(StageMissingError):
            load_manifest(run_of(0), GENERATION)
        server.start()
        assert ingest(server.uri(), run_of(0)).rows_published == 200_000
    finally:
        server.remove()


def _stage_and_kill(server):
    with snapshot(server.uri()) as source:
        reader = source.stream("select * from app.generations")
        batches = _killing(server, iter(reader))
        rows_read = pa.RecordBatchReader.from_batches(reader.schema, batches)
        stage_rows(run_of(0), Batch(GENERATION, 1), rows_read, query=typed(GENERATIONS))


def _killing(server, batches):
    """Kill the server once the first batch has come."""
    yield next(batches)
    server.stop(signal.SIGKILL)
    yield from batches


def test_a_flood_of_nulls_is_refused_and_leaves_the_table_as_it_was(server, uri):
    """A release forgets a required column: the gate refuses the hour until it is fixed."""
    for number in range(3):
        insert(server, number, at(0, number))
    ingest(uri, run_of(0))
    before = rows()
    server.execute("alter table app.generations alter status drop not null", many(1, 300))
    server.execute(f"update app.generations set status = null where updated_at >= {at(1)}")
    with pytest.raises(GateFailedError, match="300 of 300 rows bad"):
        _judge_and_publish(uri)
    assert rows() == before
    assert letters() == []
    server.execute("update app.generations set status = 'succeeded' where status is null")
    _judge_and_publish(uri)
    assert len(rows()) == 303


def test_a_few_nulls_are_refused_one_by_one(server, uri):
    server.execute("alter table app.generations alter status drop not null", many(1, 300))
    server.execute("update app.generations set status = null where prompt_tokens < 3")
    _judge_and_publish(uri)
    assert len(rows()) == 298
    assert letters() == [(GENERATION, "gate", "not_null_status")] * 2


def _judge_and_publish(uri):
    """Do what the tasks of the hour do, with GX."""
    extract(uri, run_of(1))
    with open_gate(GENERATION, run_of(1)) as gate:
        gate.checkpoint(gate.context()).run()
        gate.publish()


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_a_full_disk_is_told_and_leaves_the_table_as_it_was(server, uri, lake, limit):
    """The kernel refuses to let files grow; a smaller limit fails earlier."""
    insert(server, 1, at(0))
    process.whole_hour(uri, 0, "before")
    before = rows()
    server.execute(many(1, 5000))
    limited = process.start(uri, 1, "full", state_dir=lake, file_bytes=limit)
    code, error = process.finish(limited)
    assert code == 1
    assert "StorageRefusedError" in error
    assert rows() == before
    process.whole_hour(uri, 1, "full")
    assert len(rows()) == 5001


def test_a_staged_file_that_changed_is_never_published(server, uri):
    insert(server, 1, at(0))
    batch = extract(uri, run_of(0))
    path = Path(attempt_folder(run_of(0), batch), batch.files[0].path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StageDamagedError, match="SHA-256"):
        publish(run_of(0))
    assert rows() == []
