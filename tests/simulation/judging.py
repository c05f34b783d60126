"""Stands for GX: a gate's results from the predicates that split good rows from bad ones.

`tests/integration/quality/test_agreement.py` compares the two. Rows of the user "poison" stand for
whatever makes a gate refuse all of its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.verdicts import RATIO_RULE, RuleResult
from include.chimera.quality.rules.good_and_bad_rows import bad_rows
from tests.simulation.application import POISON

if TYPE_CHECKING:
    from include.chimera.quality.gate import Gate

_IS_POISONED = f"user_id = '{POISON}'"
_POISONED = {
    "bronze.generations": _IS_POISONED,
    "silver.stg_app__generations": _IS_POISONED,
    "gold.agg_provider_hourly": "poisoned > 0",
}


def judged(gate: Gate) -> tuple[RuleResult, ...]:
    """Return the results of two rules: the share of good rows, and that none is poisoned."""
    bad = gate.staged.rows_unparsed
    if isinstance(gate.staged, Batch):
        bad += _count(gate, bad_rows(gate.table, gate.rows))
    poisoned = _count(gate, f"from ({gate.rows}) where {_POISONED.get(gate.table, 'false')}")
    rows = sum(file.rows for file in gate.staged.files) + gate.staged.rows_unparsed
    return (
        RuleResult(RATIO_RULE, "critical", is_passed=not bad, checked_count=rows,
                   unexpected_count=bad, tolerated_count=rows),
        RuleResult("no_poison", "critical", is_passed=not poisoned, checked_count=rows,
                   unexpected_count=poisoned),
    )  # fmt: skip


def _count(gate: Gate, rows: str) -> int:
    return gate.connection.execute(f"select count(*) from ({rows})").fetchone()[0]
