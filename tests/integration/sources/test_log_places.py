"""What stands in the logs is read alike in a folder and in a bucket."""

import gzip
import json
import os
import subprocess
import sys

import duckdb
import pytest

from include.chimera.paths import PROJECT
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import hour_path
from tests.builders import HOUR, run_of, staged_refusals, staged_rows

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
TABLE = "bronze.api_logs"


def lines(*numbers):
    texts = (json.dumps({"timestamp": HOUR.isoformat(), "path": f"/{n}"}) for n in numbers)
    return "".join(f"{text}\n" for text in texts).encode()


class Hour:
    """The folder of one hour."""

    def __init__(self, logs):
        self.logs = logs

    def __setitem__(self, name, content):
        self.logs.put(f"{hour_path(HOUR)}/{name}", content)

    def read(self):
        return extract_api_logs(self.logs.root, run_of())


@pytest.fixture
def hour(logs):
    """Return an hour's folder with a file of lines 0 to 2."""
    found = Hour(logs)
    found["api.jsonl"] = lines(0, 1, 2)
    return found


def paths():
    """Return the numbers of the lines that the run staged."""
    rows = duckdb.execute(f"select path from ({staged_rows(run_of(), TABLE)})").fetchall()
    return sorted(int(path[1:]) for (path,) in rows)


def refusals():
    """Return the reasons of what the run refused."""
    query = f"select reason from ({staged_refusals(run_of(), TABLE)}) order by all"
    return [reason for (reason,) in duckdb.execute(query).fetchall()]


def test_a_log_that_is_not_read_for_its_name_is_told(hour, caplog):
    """Compressed by another tool, or an editor's backup; a shipper's hidden file is unfinished."""
    for name in (".api.jsonl.tmp", "api.jsonl.1.gz", "api.jsonl.2", "_SUCCESS", "_temporary"):
        hour[name] = b""
    hour.read()
    assert "are not read" not in caplog.text
    for name in ("api.jsonl.zst", "api.jsonl.bak", "API.JSONL", "api.log.gz", "api.json"):
        hour[name] = b""
    hour["more/api.jsonl"] = lines(9)
    hour.read()
    assert "6 names are not read" in caplog.text


def test_a_byte_order_mark_is_no_part_of_a_line(hour):
    """At a file's start, compressed or not, or within joined files; alone it is a blank line."""
    mark = b"\xef\xbb\xbf"
    hour["api.jsonl"] = mark + lines(0) + mark + lines(1) + mark
    hour["packed.jsonl.gz"] = gzip.compress(mark + lines(2))
    hour.read()
    assert (paths(), refusals()) == ([0, 1, 2], [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["wide.jsonl", "wide.jsonl.gz"])
def test_a_file_in_another_encoding_is_refused_as_one(hour, encoding, name):
    """Once, not as thousands of malformed lines."""
    content = (lines(*range(100)).decode()).encode(encoding)
    hour[name] = gzip.compress(content) if name.endswith(".gz") else content
    hour.read()
    assert paths() == [0, 1, 2]
    assert refusals() == ["file_not_utf8"]


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_packed_file_beside_its_own_content_counts_once(hour, length, caplog):
    """Whether the whole content is compressed or only its beginning."""
    packed = gzip.compress(lines(0, 1, 2))
    hour["api.jsonl.gz"] = packed[: len(packed) * length // 2]
    hour.read()
    assert (paths(), refusals()) == ([0, 1, 2], [])
    assert "both are read" not in caplog.text


@pytest.mark.parametrize("plain", [(), (0, 1)])
def test_a_packed_file_beside_another_of_its_name_is_told_and_read(hour, plain, caplog):
    """As after copytruncate: the archive holds the lines that the file has lost."""
    hour["api.jsonl"] = lines(*plain)
    hour["api.jsonl.gz"] = gzip.compress(lines(7, 8))
    hour.read()
    assert paths() == [*plain, 7, 8]
    files = duckdb.execute(f"select _file from ({staged_rows(run_of(), TABLE)})").fetchall()
    assert sum(file.endswith("api.jsonl.gz") for (file,) in files) == 2
    assert "api.jsonl.gz holds other lines" in caplog.text


def test_lines_that_stand_in_another_file_too_are_told_with_their_share(hour, caplog):
    """A copy under another name doubles its lines: nobody can tell which is the copy."""
    hour.read()
    assert "stand in another file" not in caplog.text
    hour["copy.jsonl"] = lines(2, 3)
    hour.read()
    told = [text for text in caplog.messages if "stand in another file" in text]
    assert [text.split(" in hour")[0].rpartition("/")[2] for text in told] == [
        "api.jsonl",
        "copy.jsonl",
    ]
    assert [text.split()[0] for text in told] == ["33.3", "50.0"]


STAGE = """
import resource, sys, time
from include.chimera.sources.api_logs.extract import extract_api_logs
from include.chimera.sources.api_logs.log_files import log_root
from tests.builders import HOUR, run_of

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

before, began = peak(), time.perf_counter()
rows = extract_api_logs(log_root(sys.argv[1]), run_of()).rows_read
print(rows, peak() - before, round(time.perf_counter() - began, 1))
"""


@pytest.mark.long
def test_a_gigabyte_is_staged_in_bounded_memory(logs, object_store, tmp_path):
    """In MiB above what the imports take: lines, an object's parts, batches, DuckDB's own."""
    line = {"timestamp": HOUR.isoformat(), "message": "x" * 100_000}
    logs.repeat(f"{hour_path(HOUR)}/api.jsonl", (json.dumps(line) + "\n").encode() * 160, 64)
    told = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", STAGE, logs.url],
        env={"PATH": os.defpath, "CHIMERA_STATE_DIR": str(tmp_path), **object_store.variables},
        cwd=PROJECT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()[-1]  # after a progress bar
    sys.stdout.write(f"{told}\n")
    rows, peak, _ = told.split()
    assert int(rows) == 160 * 64
    assert int(peak) < 512  # what DuckDB may take
