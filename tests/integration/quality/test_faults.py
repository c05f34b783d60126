"""Each planted fault is noticed by its intended rule and by no other."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import great_expectations as gx
import pytest

from include.chimera.lake.staged.verdicts import RATIO_RULE, tolerated
from include.chimera.paths import INCLUDE
from include.chimera.quality.gx.checkpoint import connection_string
from include.chimera.quality.rules.book import gated_tables, rule_book
from include.chimera.quality.rules.suites import STATISTICS
from tests.integration.quality.faults import (
    BRONZE_FAULTS,
    SILVER_AND_GOLD_FAULTS,
    Fault,
    chosen_rows,
)
from tests.integration.quality.gating import RUN, alarms, assert_split_agrees, gated, stage

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from include.chimera.lake.staged.verdicts import Verdict
    from include.chimera.quality.gate import Gate

pytestmark = pytest.mark.integration

FAULTS = [*BRONZE_FAULTS, *SILVER_AND_GOLD_FAULTS]
FIRST_FAULTS = list({fault.table: fault for fault in reversed(FAULTS)}.values())
"""One for each table: what plain GX is asked about, which takes seconds."""


@pytest.fixture(scope="module")
def known_models(gate_lake: Path, clean_rows: dict[str, pa.Table]) -> Path:
    """Stage the tables whose keys other tables' rules refer to."""
    stage(RUN, "bronze.models", clean_rows["bronze.models"])
    return gate_lake


def broken(fault: Fault, rows: pa.Table) -> pa.Table:
    """Plant the fault, with its own seed."""
    seed = zlib.crc32(fault.name.encode())
    return fault.plant(rows, chosen_rows(rows, fault.share, seed))


def test_corpus_is_as_large_and_as_broad_as_promised() -> None:
    """At least 60, on all layers, and at least one for each kind of check that is in use.

    Those that need a history have tests of their own.
    """
    assert len(FAULTS) >= 60
    assert {fault.table.partition(".")[0] for fault in FAULTS} == {"bronze", "silver", "gold"}
    rules = {
        (book.table, rule.rule_id): rule.check
        for book in map(rule_book, gated_tables())
        for rule in book.rules
    }
    planted = {rules[fault.table, fault.rule] for fault in FAULTS}
    assert planted == set(rules.values()) - {"not_in_set", "usual", "closed_hours"}


@pytest.mark.usefixtures("known_models")
@pytest.mark.parametrize("table", gated_tables())
def test_clean_rows_raise_no_alarm(clean_rows: dict[str, pa.Table], table: str) -> None:
    """One clean hour on every layer."""
    stage(RUN, table, clean_rows[table])
    with gated(RUN, table) as (gate, verdict):
        assert plain_gx(gate) == judged(verdict)
    assert (verdict.outcome, alarms(verdict)) == ("passed", set())


@pytest.mark.parametrize("table", [name for name in gated_tables() if "bronze" not in name])
def test_a_model_of_what_nothing_fills_passes_its_gate(
    clean_rows: dict[str, pa.Table], table: str
) -> None:
    """Else a platform without evaluations, or without logs, would never have a snapshot."""
    stage(RUN, table, clean_rows[table].slice(0, 0))
    with gated(RUN, table) as (_, verdict):
        assert verdict.failed_rules == ()


@pytest.mark.usefixtures("known_models")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_noticed_by_its_rule_alone(clean_rows: dict[str, pa.Table], fault: Fault) -> None:
    """And the verdict follows from severity, layer and pass ratio."""
    clean = clean_rows[fault.table]
    stage(RUN, fault.table, broken(fault, clean))
    with gated(RUN, fault.table) as (gate, verdict):
        assert_split_agrees(gate, verdict)
        if fault in FIRST_FAULTS:
            assert plain_gx(gate) == judged(verdict)
    if fault.table == "bronze.models":
        stage(RUN, fault.table, clean)
    noticed = alarms(verdict)
    if fault.raises:
        raised = {result.rule_id for result in verdict.results if result.error}
        about = {
            rule.rule_id
            for rule in rule_book(fault.table).rules
            if rule.check in STATISTICS  # these look at rows that no rule refuses
            or (fault.raises in rule.columns and rule.check not in ("columns", "types"))
        }
        assert raised <= about | {RATIO_RULE}
        noticed -= raised
    assert noticed == {fault.rule} | fault.also
    assert_verdict(verdict, fault)
    # To XCom go plain words and numbers, whatever the values in the rows are.
    assert {type(value) for value in verdict.describe_dict().values()} == {int, str}


def plain_gx(gate: Gate) -> dict[str, tuple[bool, int | None]]:
    """Judge with Great Expectations alone; return its verdict and count by rule."""
    context = gx.get_context(
        mode="file",
        project_root_dir=INCLUDE,
        runtime_environment={
            "CHIMERA_GATE": connection_string(gate.database),
            "CHIMERA_GX_RESULTS": str(gate.database.parent / "plain"),
            "CHIMERA_GX_DOCS": str(gate.database.parent / "docs"),
        },
    )
    result = context.checkpoints.get(gate.book.suite).run()
    return {
        item.expectation_config.meta["rule_id"]: (
            item.success,
            item.result.get("unexpected_count"),
        )
        for suite in result.run_results.values()
        for item in suite.results
    }


def judged(verdict: Verdict) -> dict[str, tuple[bool, int | None]]:
    """Return the gate's own verdict and count by rule."""
    return {rule.rule_id: (rule.is_passed, rule.unexpected_count) for rule in verdict.results}


def assert_verdict(verdict: Verdict, fault: Fault) -> None:
    """Check that a critical rule fails the gate if too many rows break it to set aside."""
    book = rule_book(fault.table)
    (rule,) = [rule for rule in book.rules if rule.rule_id == fault.rule]
    if fault.raises:
        assert verdict.outcome == "failed"
    elif rule.severity != "critical":
        assert verdict.outcome in ("passed", "warned")
        assert not verdict.failed_rules
    elif book.splits_rows and rule.is_row_rule:
        count = {result.rule_id: result for result in verdict.results}[fault.rule].unexpected_count
        assert verdict.rows_refused >= (count or 0) > 0
        allowed = tolerated(verdict.rows, verdict.min_pass_ratio)
        assert (verdict.outcome == "failed") is (verdict.rows_refused > allowed)
    else:
        assert fault.rule in verdict.failed_rules
