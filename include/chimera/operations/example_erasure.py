"""Examples of values that broke public rules, taken out again: they are whatever somebody sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from include.chimera.errors import visible
from include.chimera.lake.staged.records import write_record
from include.chimera.operations.quality_report import report_path
from include.chimera.quality.acceptance import verdicts
from include.chimera.quality.rules.good_and_bad_rows import CUT

if TYPE_CHECKING:
    from include.chimera.lake.staged.verdicts import RuleResult


def erase_examples(subject: str) -> int:
    """Take the examples that may name a subject out of all verdicts; return how many.

    One that was cut may have named it. The quality report goes, for it may show them.
    """
    wanted = visible(subject.strip())
    erased = 0
    for verdict in verdicts():
        kept = tuple(_without(result, wanted) for result in verdict.results)
        gone = _count(verdict.results) - _count(kept)
        if gone:
            write_record(verdict.run, verdict.table, replace(verdict, results=kept))
        erased += gone
    report_path().unlink(missing_ok=True)
    return erased


def _without(result: RuleResult, wanted: str) -> RuleResult:
    kept = tuple(
        (value, count)
        for value, count in result.examples
        if wanted not in value and not value.endswith(CUT)
    )
    return replace(result, examples=kept)


def _count(results: tuple[RuleResult, ...]) -> int:
    return sum(len(result.examples) for result in results)
