"""Data Docs: GX's own pages about suites and results, built once per run from recent results."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from include.chimera.quality.gx.checkpoint import gx_context
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from pathlib import Path

    from include.chimera.quality.gx.checkpoint import GatedCheckpoint

RESULTS_PER_SUITE = 24
_NOT_RAISED = {
    "raised_exception": False,
    "exception_message": None,
    "exception_traceback": None,
}
_KEPT = (
    "element_count",
    "missing_count",
    "missing_percent",
    "unexpected_count",
    "unexpected_percent",
    "unexpected_percent_nonmissing",
    "unexpected_percent_total",
    "observed_value",
)


def results_folder() -> Path:
    """Return the folder of GX's results for Data Docs, without any values."""
    return get_settings().state_dir / "gx" / "validations"


def docs_folder() -> Path:
    """Return the folder of Data Docs."""
    return get_settings().state_dir / "reports" / "data_docs"


def keep_result(checked: GatedCheckpoint) -> None:
    """Store GX's result for Data Docs, without values and exception messages."""
    if checked.result is None or checked.verdict is None:
        return
    document = checked.result.to_json_dict()  # type: ignore[no-untyped-call]  # GX
    for item in document["results"]:
        found = item["result"]
        item["result"] = {name: found[name] for name in _KEPT if name in found}
        item["exception_info"] = _NOT_RAISED
    judged = RunIdentifier(run_time=checked.verdict.validated_at)
    document["meta"]["run_id"] = judged.to_json_dict()
    document["meta"]["validation_time"] = checked.verdict.validated_at.isoformat()
    key = ValidationResultIdentifier(
        ExpectationSuiteIdentifier(checked.table), judged, checked.result.batch_id
    )
    name = key.to_tuple()  # type: ignore[no-untyped-call]  # GX
    path = results_folder().joinpath(*name).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1))


def prune_results(keep: int = RESULTS_PER_SUITE) -> int:
    """Remove all but the newest results of each suite; return how many were removed."""
    by_suite: dict[Path, list[Path]] = {}
    for path in results_folder().rglob("*.json"):
        suite = path.parents[2]  # <suite>/<run name>/<time>/<batch>.json
        by_suite.setdefault(suite, []).append(path)
    old = [
        path
        for paths in by_suite.values()
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-keep]
    ]
    for path in old:
        shutil.rmtree(path.parent)
    return len(old)


def build_docs() -> Path | None:
    """Prune old results, rebuild the pages and return their index; None: there are no results."""
    if not results_folder().is_dir():
        return None
    prune_results()
    shutil.rmtree(docs_folder(), ignore_errors=True)
    context = gx_context(get_settings().state_dir / "none.duckdb", results_folder())
    context.build_data_docs()
    return docs_folder() / "index.html"
