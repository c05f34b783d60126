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
from include.chimera.sources.api_logs.log_files import MAX_LINE_BYTES, read_lines
from include.chimera.sources.api_logs.log_folders import log_root
from include.chimera.window import HOUR, Run, Window, floor_hour
from tests.integration.ingest.pipeline import hour, letters, publish, rows, run_of

pytestmark = pytest.mark.integration
LOGS = "bronze.api_logs"


def line(number, seconds, **more):
    moment = hour(number).start + timedelta(seconds=seconds)
    return json.dumps({"timestamp": moment.isoformat(), "level": "info", **more}).encode()


def write(root, number, *lines, name="api.jsonl", end=b"\n", window=None):
    start = (window or hour(number)).start
    path = root / f"dt={start:%Y-%m-%d}" / f"hour={start:%H}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"\n".join(lines) + end
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def ingest(root, run, **options):
    extract_api_logs(log_root(str(root)), run, **options)
    return publish(run, LOGS)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def messages():
    return [row[0] for row in rows(LOGS, "message")]


def test_a_late_line_lands_in_its_own_hour_once(root):
    write(root, 0, line(0, 1, message="a"))
    ingest(root, run_of(0))
    write(root, 1, line(1, 1, message="c"), line(0, 3599, message="b"))
    second = ingest(root, run_of(1))
    again = ingest(root, run_of(1, "again"))
    assert rows(LOGS, "_window_hour, message") == [
        ("20260105T08", "a"),
        ("20260105T08", "b"),
        ("20260105T09", "c"),
    ]
    assert (second.rows_published, again.rows_published) == (2, 0)


def test_bad_lines_are_refused_with_their_place_and_the_rest_is_published(root):
    write(
        root,
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
    found = ingest(root, run_of(0))
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


def test_a_half_written_last_line_is_left_until_the_file_is_finished(root):
    """The next run reads the hour again through its lookback."""
    now = Window.of_hour(floor_hour(datetime.now(UTC)) - HOUR)
    moment = now.start.isoformat()
    whole = json.dumps({"timestamp": moment, "message": "whole"}).encode()
    half = json.dumps({"timestamp": moment, "message": "half"}).encode()
    path = write(root, 0, whole, half[:-9], end=b"", window=now)
    first = ingest(root, Run("first", now))
    assert (first.rows_read, messages()) == (1, ["whole"])
    path.write_bytes(path.read_bytes() + half[-9:] + b"\n")
    ingest(root, Run("second", now))
    assert messages() == ["half", "whole"]
    assert letters() == []


def test_a_last_line_without_newline_counts_once_the_file_is_finished(root):
    write(root, 0, line(0, 1, message="a"), line(0, 2, message="b"), end=b"")
    assert ingest(root, run_of(0)).rows_published == 2


def test_packing_a_file_changes_no_row_and_both_at_once_count_once(root):
    lines = [line(0, second, message=str(second)) for second in range(3)]
    plain = write(root, 0, *lines)
    first = ingest(root, run_of(0))
    write(root, 0, *lines[:1], name="api.jsonl.gz")
    assert ingest(root, run_of(0, "both")).rows_published == 0
    plain.unlink()
    write(root, 0, *lines, name="api.jsonl.gz")
    packed = ingest(root, run_of(0, "packed"))
    assert (packed.rows_published, packed.version) == (0, first.version)


def test_rotation_renames_and_no_line_is_lost(root):
    path = write(root, 0, line(0, 1, message="a"))
    ingest(root, run_of(0))
    path.rename(path.with_name("api.jsonl.1"))
    write(root, 0, line(0, 2, message="b"))
    ingest(root, run_of(0, "rotated"))
    assert messages() == ["a", "b"]


def test_a_truncated_file_never_empties_its_hour(root):
    path = write(root, 0, line(0, 1, message="a"), line(0, 2, message="b"))
    ingest(root, run_of(0))
    path.write_bytes(b"")
    with pytest.raises(ShrinkError, match="2 rows"):
        ingest(root, run_of(0, "truncated"))
    assert messages() == ["a", "b"]
    assert ingest(root, run_of(0, "asked"), allow_shrink=True).rows_published == 0
    assert messages() == []


def listed(path):
    """Return a file of the first hour as listed in its folder."""
    files = log_root(str(path.parents[2])).hour(hour(0).start).files
    return next(file for file in files if file.path == path)


def test_a_file_truncated_or_removed_while_it_is_read_is_read_again(root):
    """Renamed it is still the same file, and read to its end."""
    path = write(root, 0, line(0, 1), line(0, 2))
    file = listed(path)
    reading = read_lines(file, is_finished=True)
    next(reading)
    away = path.rename(path.with_name("away.jsonl"))
    assert len(list(reading)) == 1
    assert len(list(read_lines(file, is_finished=True))) == 2
    reading = read_lines(file, is_finished=True)
    next(reading)
    away.write_bytes(b"")
    with pytest.raises(SourceChangedError, match="truncated"):
        list(reading)
    away.unlink()
    with pytest.raises(SourceChangedError, match="removed"):
        list(read_lines(file, is_finished=True))


@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_a_damaged_gzip_gives_what_can_be_read_and_a_letter(root, damage):
    lines = [line(0, second % 3600, message=f"{second:x}" * 20) for second in range(5000)]
    path = write(root, 0, *lines, name="api.jsonl.gz")
    packed = bytearray(path.read_bytes())
    if damage == "cut":
        del packed[-2000:]
    else:
        packed[-3000:-2900] = bytes(100)
    path.write_bytes(packed)
    found = ingest(root, run_of(0))
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
    path = write(tmp_path_factory.getbasetemp(), 0, name="damaged.jsonl.gz")
    path.write_bytes(packed)
    for is_finished in (True, False):
        assert len(list(read_lines(listed(path), is_finished=is_finished))) <= 1000


def test_gigantic_lines_are_read_in_bounded_memory(root):
    """200 MB without a newline: one letter, and only a few lines' memory."""
    path = write(root, 0, line(0, 1))
    with path.open("r+b") as file:
        file.seek(200 * 1024 * 1024)
        file.write(b"\n" + line(0, 2) + b"\n")
    tracemalloc.start()
    found = [(found.length, found.fault) for found in read_lines(listed(path), is_finished=True)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [fault for _, fault in found] == [None, "line_too_long", None]
    assert peak < 8 * MAX_LINE_BYTES


def test_a_file_of_refused_lines_is_counted_and_not_all_kept(root):
    """A few bytes of gzip hold thousands of lines; the gate still knows how many were refused."""
    write(root, 0, *[b"x"] * 30_000, line(0, 1), name="api.jsonl.gz")
    write(root, 0, b"x", name="other.jsonl")
    found = ingest(root, run_of(0))
    assert (found.rows_read, found.rows_published, found.rows_refused) == (30_002, 1, 30_001)
    counts = collections.Counter(row[2] for row in letters())
    assert counts == {"malformed_line": 1_001, "more_refused": 1}
    (where,) = (json.loads(row[0]) for row in letters("coordinates") if "records" in row[0])
    assert where == {"file": "dt=2026-01-05/hour=08/api.jsonl", "offset": 0, "records": 29_000}
    again = ingest(root, run_of(0, "again"))
    assert (again.rows_published, len(letters())) == (0, 1_002)


@pytest.mark.parametrize("filling", [b"\n", b"x\n", b"0" * 99 + b"\n"])
def test_a_gzip_bomb_is_left_unread_and_told(root, filling, monkeypatch):
    """More lines than bytes, or too many bytes for its size; what came before counts."""
    monkeypatch.setattr(log_reading, "_MORE_LINES", 1_000)
    monkeypatch.setattr(log_reading, "_MORE_BYTES", 1_000_000)
    lines = [line(0, second) for second in range(900)]
    path = write(root, 0, *lines, name="api.jsonl.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(filling * 100_000))
    found = ingest(root, run_of(0))
    assert found.rows_published == 900
    assert "gzip_bomb" in {row[2] for row in letters()}
    assert found.rows_read < 50_000


def test_a_line_without_end_is_not_read_to_its_end(root, monkeypatch):
    """A sparse file costs its writer nothing."""
    monkeypatch.setattr(log_reading, "_ENDLESS_BYTES", 8 * MAX_LINE_BYTES)
    path = write(root, 0, line(0, 1))
    os.truncate(path, 1 << 40)
    found = [
        (found.offset > 0, found.fault) for found in read_lines(listed(path), is_finished=True)
    ]
    assert found == [(False, None), (True, "line_without_end")]


def test_each_permutation_of_backfills_gives_the_in_order_table(root, tmp_path, configure):
    for number in range(3):
        late = [line(number - 1, 3000, message=f"late {number}")] if number else []
        write(root, number, line(number, 1, message=str(number)), *late, b"junk")
    tables = []
    for order in ((0, 1, 2), (2, 0, 1, 2)):
        configure(state_dir=tmp_path / "".join(map(str, order)))
        for attempt, number in enumerate(order):
            ingest(root, run_of(number, f"backfill {attempt}", moves_watermark=False))
        tables.append((rows(LOGS), letters("letter_id")))
    assert tables[0] == tables[1]
    assert len(tables[0][0]) == 5
