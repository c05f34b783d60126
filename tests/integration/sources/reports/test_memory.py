"""A report as large as they come is read in memory that does not grow with it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.reading import END, GARAK, attempt

pytestmark = [
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc"),
]
TEXT = "a text of a model " * 200
MEBIBYTE = 1024 * 1024
READ = """
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo
from include.chimera.sources.reports.evaluations import Evaluation, ReportOrigin
from include.chimera.sources.reports.formats import read_report

origin = ReportOrigin("report", datetime.now(UTC), ZoneInfo("UTC"))
with open(sys.argv[1], "rb") as file:
    rows = sum(isinstance(found, Evaluation) for found in read_report(file, origin))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(rows, int(status["VmHWM"].split()[0]) * 1024)
"""


def read(path: Path) -> tuple[int, int]:
    """Return the rows of a report, and the most memory (bytes) that a process took to read it."""
    done = subprocess.run(  # noqa: S603 - the command is this test's
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=True
    )
    rows, peak = done.stdout.split()
    return int(rows), int(peak)


def test_a_report_of_garak_of_500_mb(tmp_path: Path) -> None:
    """A hundred thousand attempts, line by line."""
    path = tmp_path / "r.report.jsonl"
    line = json.dumps(attempt(2, detector_results={"d": [0.1, 0.9]}, prompt=TEXT)) + "\n"
    with path.open("w") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in GARAK)
        for _ in range(500 * MEBIBYTE // len(line)):
            file.write(line)
        file.write(json.dumps(END))
    rows, peak = read(path)
    assert rows == 1
    assert peak < 150 * MEBIBYTE


def test_results_of_promptfoo_of_200_mb(tmp_path: Path) -> None:
    """A document, which is mapped from its file and not copied."""
    path = tmp_path / "results.json"
    row = {"success": True, "response": {"output": TEXT}, "provider": "echo", "failureReason": 0}
    count = 200 * MEBIBYTE // len(json.dumps(row))
    inner = {"version": 3, "timestamp": "2026-02-01T10:00:00Z", "results": [row] * count}
    with path.open("w") as file:
        json.dump({"evalId": "e", "results": inner}, file)
    rows, peak = read(path)
    assert rows == count
    assert peak < 450 * MEBIBYTE


def test_a_log_of_inspect_with_20_000_samples(tmp_path: Path) -> None:
    """An archive, sample by sample."""
    path = tmp_path / "log.eval"
    about = {"eval_id": "e", "task": "t", "model": "openai/m", "created": "2026-02-01T10:00:00Z"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(20_000):
            sample = {"id": number, "uuid": f"u{number}", "messages": [TEXT] * 3}
            content = json.dumps({**sample, "scores": {"match": {"value": "C"}}})
            archive.writestr(f"samples/{number}_epoch_1.json", content)
        header = {"version": 2, "status": "success", "eval": about}
        archive.writestr("header.json", json.dumps(header))
    rows, peak = read(path)
    assert rows == 20_000
    assert peak < 200 * MEBIBYTE
