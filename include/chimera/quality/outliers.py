"""Derive a limit for a column's values from its largest past values.

Each hour a `usual` rule records the hour's largest value. The limit comes from those of the last
seven days by the modified z-score of Iglewicz and Hoaglin, with the median and the median absolute
deviation (MAD), which outliers in fewer than half of the hours can't move. It works on logarithms,
because costs, tokens and latencies differ by factors, and allows six deviations instead of their
3.5, because an hour's largest value is itself from the end of a tail.

Source: B. Iglewicz, D. Hoaglin, How to Detect and Handle Outliers, 1993;
https://www.itl.nist.gov/div898/handbook/eda/section3/eda35h.htm
"""

from __future__ import annotations

from datetime import timedelta
from math import exp, log
from statistics import median
from typing import TYPE_CHECKING

from include.chimera.contracts import PARTITION, QUALITY_RESULTS
from include.chimera.lake.delta.scans import open_readable, scan
from include.chimera.lake.store.duckdb_sessions import quote
from include.chimera.window import HOUR, hour_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb import DuckDBPyConnection

    from include.chimera.quality.rules.book import Rule, RuleBook
    from include.chimera.window import Run

USUAL = "usual_"
# A week of hours costs a gate 0.2 s of CPU, two weeks 0.4 (2026-11-28).
MIN_HOURS, MAX_DAYS = 6, 7
# The largest value of an hour was up to 17 times the median in real traces (llmperf's time to the
# first token, 2026-11-28), and up to 6 times in generated hours.
DEVIATIONS, TIMES = 6.0, 30.0
# A normal distribution's standard deviation is 1.4826 median absolute deviations.
# Source: https://en.wikipedia.org/wiki/Median_absolute_deviation
SCALE = 1.4826
_GREATEST_EXPONENT = 700.0


def limit(former: Sequence[float], floor: float, times: float = TIMES) -> float | None:
    """Return the largest usual value, or None with fewer than six past hours.

    Args:
        former: The largest value of each past hour.
        floor: Raise smaller values to this one: below it nothing is of interest, and zero has no
            logarithm. Above zero.
        times: Values up to this multiple of the median are usual, however alike past hours are.
    """
    if len(former) < MIN_HOURS:
        return None
    logs = [log(max(value, floor)) for value in former]
    middle = median(logs)
    spread = SCALE * median(abs(value - middle) for value in logs)
    return exp(min(middle + max(log(times), DEVIATIONS * spread), _GREATEST_EXPONENT))


def limits(book: RuleBook, run: Run, lake: DuckDBPyConnection) -> list[tuple[str, float]]:
    """Return rule id and limit of each of a book's `usual` rules that has a limit.

    Args:
        book: A table's rules.
        run: The run; the hours before its window count, each with its last recorded value.
        lake: A session that reads the lake's tables.
    """
    rules = [rule for rule in book.rules if rule.check == "usual"]
    results = open_readable(QUALITY_RESULTS.name) if rules else None
    if results is None:
        return []
    first = hour_label(run.window.start - timedelta(days=MAX_DAYS))
    last = hour_label(run.window.start - HOUR)
    ids = ", ".join(quote(rule.rule_id) for rule in rules)
    rows = lake.execute(
        "select rule_id, arg_max(observed_value, recorded_at) "
        f"from ({scan(results, QUALITY_RESULTS.name)}) "
        f"where {PARTITION} between {quote(first)} and {quote(last)} "
        f"and table_name = {quote(book.table)} and rule_id in ({ids}) "
        f"and observed_value is not null group by rule_id, {PARTITION}"
    ).fetchall()
    found = [(rule.rule_id, _limit_of(rule, rows)) for rule in rules]
    return [(rule_id, value) for rule_id, value in found if value is not None]


def _limit_of(rule: Rule, rows: Sequence[tuple[str, float]]) -> float | None:
    former = [value for rule_id, value in rows if rule_id == rule.rule_id]
    return limit(former, rule.bounds["floor"], rule.bounds.get("times", TIMES))
