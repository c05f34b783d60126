"""What a gate's numbers mean."""

import json
from datetime import UTC, datetime

import pytest

from include.chimera.lake.staged.records import to_json
from include.chimera.lake.staged.verdicts import (
    RATIO_RULE,
    RuleResult,
    Verdict,
    find_failed_rules,
    tolerated,
)
from include.chimera.window import Window

NOW = datetime(2026, 1, 5, 11, tzinfo=UTC)
PASSED = RuleResult("one", "critical", is_passed=True, checked_count=200, unexpected_count=0)


def verdict(*results: RuleResult, rows: int = 200, refused: int = 0, **more) -> Verdict:
    failed = find_failed_rules(results, rows, refused, 0.99)
    return Verdict(
        "bronze.generations", "r", Window.of_hour(NOW), True, results, rows, refused, failed, 1.0,
        NOW, 0.99, **more,
    )  # fmt: skip


def test_broken_critical_rule_fails_the_gate() -> None:
    """Whatever the others say."""
    found = verdict(PASSED, RuleResult("two", "critical", is_passed=False))
    assert (found.outcome, found.success, found.failed_rules) == ("failed", False, ("two",))


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_broken_warning_passes_and_is_told(severity: str) -> None:
    """It raises an alert, but stops nothing."""
    found = verdict(PASSED, RuleResult("two", severity, is_passed=False))
    assert (found.outcome, found.success, found.failed_rules) == ("warned", True, ())


@pytest.mark.parametrize(("severity", "outcome"), [("warning", "warned"), ("critical", "failed")])
def test_rule_that_raised_counts_as_broken_by_its_severity(severity: str, outcome: str) -> None:
    """A rule that could not be judged counts as failed; even so, a warning stops nothing."""
    raised = RuleResult(
        "two", severity, is_passed=False, error="OutOfRangeError", tolerated_count=9
    )
    assert verdict(PASSED, raised).outcome == outcome


@pytest.mark.parametrize(
    ("rows", "refused", "outcome"),
    [
        (200, 2, "passed"),
        (200, 3, "failed"),
        (20, 1, "passed"),
        (20, 2, "failed"),
        (1, 1, "passed"),
    ],
)
def test_share_of_good_rows_decides_at_its_threshold(rows: int, refused: int, outcome: str) -> None:
    """Two of 200 leave exactly 99 %; one row never stops an hour, however few there are."""
    found = verdict(PASSED, rows=rows, refused=refused)
    assert found.outcome == outcome
    assert (RATIO_RULE in found.failed_rules) is (outcome == "failed")


def test_one_bad_value_of_few_known_ones_warns() -> None:
    """GX counts only known values, so one of 20 is 5 %."""
    one = RuleResult("two", "critical", False, 20, 1, tolerated_count=tolerated(20, 0.99))
    assert verdict(one).outcome == "warned"
    more = RuleResult("two", "critical", False, 20, 2, tolerated_count=tolerated(20, 0.99))
    assert verdict(more).failed_rules == ("two",)
    assert tolerated(20, 1.0) == 0


def test_no_rows_break_nothing() -> None:
    """It is up to the row-count rule to refuse an empty batch."""
    assert verdict(rows=0).pass_ratio == 1.0
    assert verdict(rows=0).success


def test_accepted_gate_keeps_the_names_of_what_failed() -> None:
    """The accepter's name is added, and does not replace them."""
    broken = RuleResult("two", "critical", is_passed=False)
    found = verdict(broken, accepted_by="ada")
    assert (found.outcome, found.success, found.failed_rules) == ("accepted", True, ("two",))


def test_xcom_gets_names_and_counts_alone() -> None:
    """Examples of public columns go to the run's records, not to Airflow's database."""
    broken = RuleResult("two", "critical", is_passed=False, examples=(("refunded", 3),))
    text = json.dumps(verdict(broken).describe_dict())
    assert "refunded" not in text
    assert "refunded" in to_json(verdict(broken))
