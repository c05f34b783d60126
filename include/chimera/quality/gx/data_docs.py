"""Data Docs: GX's own pages about suites and results, built daily from recent results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from include.chimera.lake.store import storage
from include.chimera.lake.store.scratch import scratch
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.quality.gx.checkpoint import gx_context
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from include.chimera.lake.store.storage import StoredFile
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


def results_folder() -> str:
    """Return the folder of GX's results for Data Docs, without any values."""
    return f"{get_settings().reports}/validations"


def docs_folder() -> str:
    """Return the folder of Data Docs."""
    return f"{get_settings().reports}/data_docs"


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
        ExpectationSuiteIdentifier(checked.checkpoint.name), judged, checked.result.batch_id
    )
    name = key.to_tuple()  # type: ignore[no-untyped-call]  # GX
    place = f"{'/'.join((results_folder(), *name))}.json"
    with storage_errors(f"keeping the result of {checked.table} for Data Docs"):
        storage.write_text(place, json.dumps(document, indent=1))


def prune_results(keep: int = RESULTS_PER_SUITE, *, dry_run: bool = False) -> int:
    """Remove all but the newest results of each suite; return how many are superfluous."""
    by_suite: dict[str, list[StoredFile]] = {}
    with storage_errors("forgetting old results of Data Docs"):
        for file in storage.walk(results_folder()):
            suite = file.place.rsplit("/", 3)[0]  # <suite>/<run name>/<time>/<batch>.json
            by_suite.setdefault(suite, []).append(file)
        old = [
            file.place
            for files in by_suite.values()
            for file in sorted(files, key=lambda file: file.changed_at)[:-keep]
        ]
        if not dry_run:
            storage.delete_files(old)
    return len(old)


def build_docs() -> str | None:
    """Build the pages anew and return their index; None: there are no results."""
    with storage_errors("building Data Docs"), scratch("docs") as folder:
        if not storage.fetch_folder(results_folder(), f"{folder}/results"):
            return None
        gx_context(Path(folder) / "none.duckdb").build_data_docs()
        storage.replace_folder(docs_folder(), f"{folder}/docs")
    return f"{docs_folder()}/index.html"
