"""Erase examples of values that broke public rules, because senders may write anything in them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from include.chimera.errors import visible
from include.chimera.lake.staged.records import write_record
from include.chimera.lake.store import storage
from include.chimera.operations.quality_report import report_place
from include.chimera.quality.acceptance import verdicts
from include.chimera.quality.rules.good_and_bad_rows import CUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.lake.staged.verdicts import RuleResult, Verdict

_ALONE = r"(?:(?<![0-9A-Za-z_-])|(?<=\\u[0-9a-f]{4}))%s(?![0-9A-Za-z_-])"


def count_examples(subject: str) -> int:
    """Return how many examples `erase_examples` would remove."""
    return sum(_count(verdict) - _count(kept) for verdict, kept in _verdicts_without(subject))


def erase_examples(subject: str) -> int:
    """Remove the examples that may name a subject from all verdicts; return how many.

    The name must match as a whole word, as in payloads; a truncated example may have named it. The
    quality report, which may show the examples, is deleted too.
    """
    erased = 0
    for verdict, kept in _verdicts_without(subject):
        write_record(verdict.run, verdict.table, kept)
        erased += _count(verdict) - _count(kept)
    if erased:
        storage.delete_files([report_place()])
    return erased


def _verdicts_without(subject: str) -> Iterator[tuple[Verdict, Verdict]]:
    """Yield each verdict that may name the subject, as it is and without those examples."""
    name = re.compile(_ALONE % re.escape(visible(subject.strip())))
    for verdict in verdicts():
        kept = replace(verdict, results=tuple(_without(result, name) for result in verdict.results))
        if kept != verdict:
            yield verdict, kept


def _without(result: RuleResult, name: re.Pattern[str]) -> RuleResult:
    kept = (
        (value, count)
        for value, count in result.examples
        if not (name.search(value) or value.endswith(CUT))
    )
    return replace(result, examples=tuple(kept))


def _count(verdict: Verdict) -> int:
    return sum(len(result.examples) for result in verdict.results)
