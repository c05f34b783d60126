"""Log lines reach their own hour once; malformed ones are refused with a reason."""

import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from tests.builders import HOUR, LABEL, run_of, staged_refusals, staged_rows

TABLE = "bronze.api_logs"


def line(at: datetime, **fields: object) -> bytes:
    """Return one well-formed log line."""
    return json.dumps({"timestamp": at.isoformat(), "path": "/v1", **fields}).encode()


def write(root: Path, hour: datetime, *lines: bytes, name: str = "api.jsonl") -> None:
    """Write a file of the hour."""
    folder = root / f"dt={hour:%Y-%m-%d}" / f"hour={hour:%H}"
    folder.mkdir(parents=True, exist_ok=True)
    content = b"".join(text + b"\n" for text in lines)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def rows(run, columns: str, where: str = "true") -> list[tuple]:
    """Return the rows that the run staged."""
    staged = f"from ({staged_rows(run, TABLE)}) where {where}"
    return sorted(duckdb.execute(f"select {columns} {staged}").fetchall())


def refusals(run, columns: str = "reason, payload") -> list[tuple]:
    """Return the records that the run refused."""
    found = duckdb.execute(f"select {columns} from ({staged_refusals(run, TABLE)})").fetchall()
    return sorted(found)


@pytest.fixture
def root(lake: Path, tmp_path: Path) -> Path:
    """Return the root of the logs."""
    del lake
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_late_line_is_staged_in_its_own_hour(root: Path) -> None:
    """It is in the next hour's file, and both hours' runs give it the same coordinates."""
    write(root, HOUR, line(HOUR))
    write(root, HOUR + timedelta(hours=1), line(HOUR + timedelta(minutes=59)))
    run, following = run_of(), run_of(HOUR + timedelta(hours=1))
    assert extract_api_logs(log_root(str(root)), run).rows_read == 2
    assert extract_api_logs(log_root(str(root)), following).rows_read == 2
    wanted = "_window_hour, _file, _offset, _line_hash"
    assert rows(run, wanted) == rows(following, wanted)
    assert {hour for hour, *_ in rows(run, wanted)} == {LABEL}


def test_window_is_half_open(root: Path) -> None:
    """The last microsecond is this hour's, the next one is not."""
    end = HOUR + timedelta(hours=1)
    write(root, HOUR, line(HOUR), line(end - timedelta(microseconds=1)), line(end))
    run = run_of()
    extract_api_logs(log_root(str(root)), run)
    assert len(rows(run, "timestamp")) == 2
    assert refusals(run) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"timestamp": "2026-01-01T05:00:00Z", "status_code": ', "malformed_line"),
        (b"\xff\xfe not utf-8", "malformed_line"),
        (b'{"path": "/v1"}', "malformed_line"),
        (b'{"timestamp": "2026-01-01T05:00:00"}', "malformed_line"),
        (b'{"timestamp": "2026-01-01T05:00:00Z", "status_code": "200"}', "malformed_line"),
        (b'{"timestamp": "0001-01-01T00:00:00+14:00"}', "timestamp_outside_lookback"),
        (
            b'{"timestamp": "2026-01-01T05:00:00Z", "status_code": 9223372036854775808}',
            "malformed_line",
        ),
        (b'{"timestamp": "2026-01-01T05:00:00Z", "message": "\\ud800"}', "malformed_line"),
        (b'{"timestamp": "2025-12-31T05:00:00Z"}', "timestamp_outside_lookback"),
        (b'{"timestamp": "2027-01-01T05:00:00Z"}', "timestamp_outside_lookback"),
    ],
)
def test_bad_line_is_refused_as_it_stands_and_costs_no_other(
    root: Path, text: bytes, reason: str
) -> None:
    """Cut off, other encodings, no time, no zone, a wrong type, too large, another year."""
    write(root, HOUR, line(HOUR), text, line(HOUR + timedelta(minutes=1)))
    run = run_of()
    batch = extract_api_logs(log_root(str(root)), run)
    assert (batch.rows_read, batch.rows_unparsed) == (3, 1)
    assert refusals(run) == [(reason, text)]
    ((coordinates,),) = refusals(run, "coordinates")
    assert json.loads(coordinates)["offset"] == len(line(HOUR)) + 1


def test_line_ahead_of_its_file_is_kept_by_the_run_that_looks_back(root: Path) -> None:
    """A file rotated late holds the next hour's first lines: that hour must not shrink."""
    following = HOUR + timedelta(hours=1)
    write(root, HOUR, line(HOUR), line(following))
    write(root, following, line(following + timedelta(minutes=1)))
    own, looking_back = run_of(following), run_of(following + timedelta(hours=1))
    for run in (own, looking_back):
        extract_api_logs(log_root(str(root)), run)
    wanted = "_file, _offset"
    hour = "_window_hour = '20260101T06'"
    assert len(rows(own, wanted, hour)) == 2
    assert rows(looking_back, wanted, hour) == rows(own, wanted, hour)


def test_bad_line_is_the_same_letter_in_each_run_that_reads_its_file(root: Path) -> None:
    """A file may still grow after its own run: the lookback must not lose the new lines."""
    write(root, HOUR, b"no json")
    runs = run_of(), run_of(HOUR + timedelta(hours=1))
    for run in runs:
        assert extract_api_logs(log_root(str(root)), run).rows_unparsed == 1
    assert refusals(runs[0], "*") == refusals(runs[1], "*")


def test_packed_files_and_blank_lines(root: Path) -> None:
    """Offsets refer to the decompressed file."""
    write(root, HOUR, line(HOUR), b"", line(HOUR, path="/v2"), name="api.jsonl.gz")
    run = run_of()
    extract_api_logs(log_root(str(root)), run)
    assert rows(run, "_offset, path") == [(0, "/v1"), (len(line(HOUR)) + 2, "/v2")]


def test_hour_without_files_is_an_empty_batch(root: Path) -> None:
    """The gate decides what an empty hour means."""
    batch = extract_api_logs(log_root(str(root)), run_of())
    assert (batch.rows_read, batch.files) == (0, [])
