"""API logs: any bytes may come, no line is lost and none is taken twice."""

import collections
import gzip
import json
import os
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.chimera.errors import ShrinkError, SourceChangedError
from include.chimera.sources.api_logs import log_files as log_reading
from include.chimera.sources.api_logs.extract import extract_api_logs, parse_line
from include.chimera.sources.api_logs.log_files import MAX_LINE_BYTES, hour_path, read_lines
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.ingest.pipeline import hour, letters, publish, rows, run_of
from tests.integration.log_places import Folder

pytestmark = pytest.mark.integration
LOGS = "bronze.api_logs"


def line(number, seconds, **more):
    moment = hour(number).start + timedelta(seconds=seconds)
    return json.dumps({"timestamp": moment.isoformat(), "level": "info", **more}).encode()


def write(logs, number, *lines, name="api.jsonl", end=b"\n", window=None):
    """Write a file of an hour; return its key."""
    key = f"{hour_path((window or hour(number)).start)}/{name}"
    content = b"\n".join(lines) + end
    logs.put(key, gzip.compress(content) if name.endswith(".gz") else content)
    return key


def ingest(logs, run, **options):
    extract_api_logs(logs.root, run, **options)
    return publish(run, LOGS)


@pytest.fixture
def folder(tmp_path):
    """Return a folder for logs."""
    return Folder(tmp_path / "logs")


def messages():
    return [row[0] for row in rows(LOGS, "message")]


def test_a_late_line_lands_in_its_own_hour_once(logs):
    write(logs, 0, line(0, 1, message="a"))
    ingest(logs, run_of(0))
    write(logs, 1, line(1, 1, message="c"), line(0, 3599, message="b"))
    second = ingest(logs, run_of(1))
    again = ingest(logs, run_of(1, "again"))
    assert rows(LOGS, "_window_hour, message") == [
        ("20260105T08", "a"),
        ("20260105T08", "b"),
        ("20260105T09", "c"),
    ]
    assert (second.rows_published, again.rows_published) == (2, 0)


def test_bad_lines_are_refused_with_their_place_and_the_rest_is_published(logs):
    write(
        logs,
        0,
        line(0, 1, message="good"),
        b"\xff\xfe\x00 not text",
        b"[" * 100_000,
        b'{"timestamp": "2026-01-05T08:00:00"}',
        line(0, 2, status_code=2**70),
        line(0, 3, message="x" * MAX_LINE_BYTES),
        line(9, 1, message="from another hour"),
        line(0, 4, message="good as well"),
    )
    found = ingest(logs, run_of(0))
    assert (found.rows_read, found.rows_published, found.rows_refused) == (8, 2, 6)
    assert messages() == ["good", "good as well"]
    assert sorted(row[2] for row in letters()) == [
        "line_too_long",
        *["malformed_line"] * 4,
        "timestamp_outside_lookback",
    ]
    places = [json.loads(row[0]) for row in letters("coordinates")]
    assert {place["file"] for place in places} == {"dt=2026-01-05/hour=08/api.jsonl"}
    assert max(row[0] for row in letters("octet_length(payload)")) == 64 * 1024


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_no_bytes_break_the_parser(content):
    parse_line(content)


@given(
    st.dictionaries(
        st.sampled_from(["timestamp", "status_code", "duration_ms", "message", "new"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=9) | st.datetimes().map(str),
    )
)
@settings(max_examples=200, deadline=None)
def test_no_json_breaks_the_parser(fields):
    parse_line(json.dumps(fields).encode())


def test_a_half_written_last_line_is_left_until_the_file_is_finished(logs):
    """The next run reads the hour again through its lookback."""
    now = Window.of_hour(floor_hour(datetime.now(UTC)) - HOUR)
    moment = now.start.isoformat()
    whole = json.dumps({"timestamp": moment, "message": "whole"}).encode()
    half = json.dumps({"timestamp": moment, "message": "half"}).encode()
    key = write(logs, 0, whole, half[:-9], end=b"", window=now)
    first = ingest(logs, Run("first", now))
    assert (first.rows_read, messages()) == (1, ["whole"])
    logs.put(key, logs.get(key) + half[-9:] + b"\n")
    ingest(logs, Run("second", now))
    assert messages() == ["half", "whole"]
    assert letters() == []


def test_a_last_line_without_newline_counts_once_the_file_is_finished(logs):
    write(logs, 0, line(0, 1, message="a"), line(0, 2, message="b"), end=b"")
    assert ingest(logs, run_of(0)).rows_published == 2


def test_packing_a_file_changes_no_row_and_both_at_once_count_once(logs):
    lines = [line(0, second, message=str(second)) for second in range(3)]
    plain = write(logs, 0, *lines)
    first = ingest(logs, run_of(0))
    write(logs, 0, *lines[:1], name="api.jsonl.gz")
    assert ingest(logs, run_of(0, "both")).rows_published == 0
    logs.delete(plain)
    write(logs, 0, *lines, name="api.jsonl.gz")
    packed = ingest(logs, run_of(0, "packed"))
    assert (packed.rows_published, packed.version) == (0, first.version)


def test_rotation_renames_and_no_line_is_lost(logs):
    key = write(logs, 0, line(0, 1, message="a"))
    ingest(logs, run_of(0))
    logs.rename(key, f"{key}.1")
    write(logs, 0, line(0, 2, message="b"))
    ingest(logs, run_of(0, "rotated"))
    assert messages() == ["a", "b"]


def test_a_truncated_file_never_empties_its_hour(logs):
    key = write(logs, 0, line(0, 1, message="a"), line(0, 2, message="b"))
    ingest(logs, run_of(0))
    logs.put(key, b"")
    with pytest.raises(ShrinkError, match="2 rows"):
        ingest(logs, run_of(0, "truncated"))
    assert messages() == ["a", "b"]
    assert ingest(logs, run_of(0, "asked"), allow_shrink=True).rows_published == 0
    assert messages() == []


def listed(logs, key):
    """Return a file of the first hour as listed in its folder."""
    files = logs.root.hour(hour(0).start).files
    return next(file for file in files if file.place.endswith(key))


def test_a_file_truncated_or_removed_while_it_is_read_is_read_again(folder):
    """Renamed it is still the same file, and read to its end."""
    key = write(folder, 0, line(0, 1), line(0, 2))
    away = f"{key}.1"
    file = listed(folder, key)
    reading = read_lines(file, is_finished=True)
    next(reading)
    folder.rename(key, away)
    assert len(list(reading)) == 1
    assert len(list(read_lines(file, is_finished=True))) == 2
    reading = read_lines(file, is_finished=True)
    next(reading)
    folder.put(away, b"")
    with pytest.raises(SourceChangedError, match="truncated"):
        list(reading)
    folder.delete(away)
    with pytest.raises(SourceChangedError, match="removed"):
        list(read_lines(file, is_finished=True))


@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_a_damaged_gzip_gives_what_can_be_read_and_a_letter(logs, damage):
    lines = [line(0, second % 3600, message=f"{second:x}" * 20) for second in range(5000)]
    key = write(logs, 0, *lines, name="api.jsonl.gz")
    packed = bytearray(logs.get(key))
    if damage == "cut":
        del packed[-2000:]
    else:
        packed[-3000:-2900] = bytes(100)
    logs.put(key, bytes(packed))
    found = ingest(logs, run_of(0))
    assert 1000 < found.rows_published < 5000
    reasons = [row[2] for row in letters()]
    assert reasons.count("damaged_gzip") == 1
    assert set(reasons) <= {"damaged_gzip", "malformed_line"}


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_no_damage_to_a_gzip_stops_the_reading(tmp_path_factory, data):
    """Whichever byte is wrong, missing or added, the result is lines or a fault, never an error."""
    packed = bytearray(gzip.compress(b"\n".join(line(0, second) for second in range(50))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(packed) - 1))
        packed[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        packed = packed or bytearray(b"x")
    folder = Folder(tmp_path_factory.getbasetemp())
    key = write(folder, 0, name="damaged.jsonl.gz")
    folder.put(key, packed)
    for is_finished in (True, False):
        assert len(list(read_lines(listed(folder, key), is_finished=is_finished))) <= 1000


def test_gigantic_lines_are_read_in_bounded_memory(logs):
    """200 MB without a newline: one letter, and only a few lines' memory, or an object's parts."""
    key = write(logs, 0, line(0, 1), bytes(200 * 1024 * 1024), line(0, 2))
    tracemalloc.start()
    found = [
        (found.length, found.fault) for found in read_lines(listed(logs, key), is_finished=True)
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [fault for _, fault in found] == [None, "line_too_long", None]
    assert peak < (8 if isinstance(logs, Folder) else 48) * MAX_LINE_BYTES


def test_a_file_of_refused_lines_is_counted_and_not_all_kept(logs):
    """A few bytes of gzip hold thousands of lines; the gate still knows how many were refused."""
    write(logs, 0, *[b"x"] * 30_000, line(0, 1), name="api.jsonl.gz")
    write(logs, 0, b"x", name="other.jsonl")
    found = ingest(logs, run_of(0))
    assert (found.rows_read, found.rows_published, found.rows_refused) == (30_002, 1, 30_001)
    counts = collections.Counter(row[2] for row in letters())
    assert counts == {"malformed_line": 1_001, "more_refused": 1}
    (where,) = (json.loads(row[0]) for row in letters("coordinates") if "records" in row[0])
    assert where == {"file": "dt=2026-01-05/hour=08/api.jsonl", "offset": 0, "records": 29_000}
    again = ingest(logs, run_of(0, "again"))
    assert (again.rows_published, len(letters())) == (0, 1_002)


@pytest.mark.parametrize("filling", [b"\n", b"x\n", b"0" * 99 + b"\n"])
def test_a_gzip_bomb_is_left_unread_and_told(logs, filling, monkeypatch):
    """More lines than bytes, or too many bytes for its size; what came before counts."""
    monkeypatch.setattr(log_reading, "_MORE_LINES", 1_000)
    monkeypatch.setattr(log_reading, "_MORE_BYTES", 1_000_000)
    lines = [line(0, second) for second in range(900)]
    key = write(logs, 0, *lines, name="api.jsonl.gz")
    logs.put(key, logs.get(key) + gzip.compress(filling * 100_000))
    found = ingest(logs, run_of(0))
    assert found.rows_published == 900
    assert "gzip_bomb" in {row[2] for row in letters()}
    assert found.rows_read < 50_000


def test_a_line_without_end_is_not_read_to_its_end(folder, monkeypatch):
    """A sparse file costs its writer nothing."""
    monkeypatch.setattr(log_reading, "_ENDLESS_BYTES", 8 * MAX_LINE_BYTES)
    key = write(folder, 0, line(0, 1))
    os.truncate(folder.path / key, 1 << 40)
    found = [
        (found.offset > 0, found.fault)
        for found in read_lines(listed(folder, key), is_finished=True)
    ]
    assert found == [(False, None), (True, "line_without_end")]


def test_each_permutation_of_backfills_gives_the_in_order_table(logs, tmp_path, configure):
    for number in range(3):
        late = [line(number - 1, 3000, message=f"late {number}")] if number else []
        write(logs, number, line(number, 1, message=str(number)), *late, b"junk")
    tables = []
    for order in ((0, 1, 2), (2, 0, 1, 2)):
        configure(state_dir=tmp_path / "".join(map(str, order)))
        for attempt, number in enumerate(order):
            ingest(logs, run_of(number, f"backfill {attempt}", moves_watermark=False))
        tables.append((rows(LOGS), letters("letter_id")))
    assert tables[0] == tables[1]
    assert len(tables[0][0]) == 5
