"""Examples of values that broke public rules, taken out again: they are whatever somebody sent."""

from __future__ import annotations

from typing import Any

from include.chimera.errors import visible
from include.chimera.lake.staged.manifests import VERDICT, write_record
from include.chimera.operations.quality_report import report_path
from include.chimera.quality.acceptance import run_of_record, verdicts
from include.chimera.quality.rules.good_and_bad_rows import CUT


def erase_examples(subject: str) -> int:
    """Take the examples that may name a subject out of all verdicts; return how many.

    One that was cut may have named it. The quality report goes, for it may show them.
    """
    wanted = visible(subject.strip())
    erased = 0
    for record in verdicts():
        kept = [_without(result, wanted) for result in record["results"]]
        gone = _count(record["results"]) - _count(kept)
        if gone:
            run = run_of_record(record)
            write_record(run, record["table"], VERDICT, {**record, "results": kept})
        erased += gone
    report_path().unlink(missing_ok=True)
    return erased


def _without(result: dict[str, Any], wanted: str) -> dict[str, Any]:
    kept = [
        [value, count]
        for value, count in result["examples"]
        if wanted not in value and not value.endswith(CUT)
    ]
    return {**result, "examples": kept}


def _count(results: list[dict[str, Any]]) -> int:
    return sum(len(result["examples"]) for result in results)
