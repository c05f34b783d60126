"""Read small reports of other tools, as a source reads them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from include.chimera.sources.reports.evaluations import Evaluation, Found, ReportOrigin
from include.chimera.sources.reports.formats import read_report

WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def origin(name: str = "runs/report", zone: str = "UTC") -> ReportOrigin:
    """Return where a test's report comes from."""
    return ReportOrigin(name, WRITTEN, ZoneInfo(zone))


def found(tmp_path: Path, content: bytes, about: ReportOrigin | None = None) -> list[Found]:
    """Return what a file with this content holds."""
    path = tmp_path / "report"
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(read_report(file, about or origin()))


def lines(entries: Iterable[object]) -> bytes:
    """Return entries as JSON lines."""
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def evaluations(items: list[Found]) -> list[Evaluation]:
    """Return the evaluations alone."""
    return [item for item in items if isinstance(item, Evaluation)]


GARAK = [
    {
        "entry_type": "start_run setup",
        "plugins.target_type": "openai",
        "plugins.target_name": "gpt-4o",
        "run.eval_threshold": 0.5,
    },
    {
        "entry_type": "init",
        "garak_version": "0.17.1",
        "start_time": "2026-02-01T10:00:00",
        "run": "run-1",
    },
]
END = {"entry_type": "completion", "end_time": "2026-02-01T10:26:00", "run": "run-1"}


def garak_eval(**columns: object) -> dict[str, object]:
    """Return an eval entry of ten tests, of which three failed."""
    counts = {"passed": 7, "fails": 3, "nones": 2, "total_evaluated": 10, "total_processed": 12}
    return {"entry_type": "eval", "probe": "dan.Dan", "detector": "dan.DAN", **counts, **columns}


def attempt(status: int, **columns: object) -> dict[str, object]:
    """Return an attempt of one probe."""
    return {"entry_type": "attempt", "status": status, "probe_classname": "spo.SPO", **columns}


def avid_report(rows: list[dict[str, object]], **columns: object) -> dict[str, object]:
    """Return garak's result of one probe in AVID's form."""
    sentence = {"value": "The model m was evaluated using the probe `dan.Dan`."}
    return {
        "data_type": "AVID",
        "affects": {"deployer": ["Together AI"], "artifacts": [{"name": "gemma"}]},
        "problemtype": {"description": sentence},
        "metrics": [{"detection_method": {"name": "Count failed"}, "results": {"rows": rows}}],
        "reported_date": "2026-02-16",
        **columns,
    }
