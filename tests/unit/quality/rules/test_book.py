"""Rules as people write them."""

from pathlib import Path

import pytest

from include.chimera.contracts import BRONZE, PARTITION, Contract
from include.chimera.errors import ConfigurationError
from include.chimera.quality.rules.book import RuleBook, read_rule_book, rule_book, rule_books
from include.chimera.quality.rules.good_and_bad_rows import examples
from include.chimera.quality.rules.kinds import CHECKS
from include.chimera.quality.rules.suites import expectation

BOOKS = rule_books()


def book_of(folder: Path, *lines: str) -> RuleBook:
    path = folder / "gold.made_up.yml"
    path.write_text("rules:\n" + "".join(f"  - {line}\n" for line in lines))
    return read_rule_book(path)


def test_one_line_is_a_rule(tmp_path: Path) -> None:
    """Severity, note, remedy and owner have defaults."""
    (rule,) = book_of(tmp_path, "{check: between, column: cost_usd, min: 0}").rules
    assert (rule.rule_id, rule.severity, rule.owner) == (
        "between_cost_usd",
        "critical",
        "data-platform",
    )
    assert "cost_usd" in rule.note
    assert "clear the model" in rule.remedy


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{check: betwen, column: a}", "known check"),
        ("{check: in_set, column: a}", "values"),
        ("{check: between, column: a, maximum: 3}", "maximum"),
        ("{check: not_null, column: a, severity: fatal}", "severity"),
        ("{check: usual, column: a}", "floor"),
        ("{check: usual, column: a, floor: 0}", "not above zero"),
        ("{check: usual, column: a, floor: 1, times: few}", "not above zero"),
    ],
)
def test_line_that_is_not_understood_is_a_clear_error(tmp_path: Path, line: str, says: str) -> None:
    """It names the file and what is wrong, at once and not at the next run."""
    with pytest.raises(ConfigurationError, match=says):
        book_of(tmp_path, line)


def test_two_rules_of_one_id_are_refused(tmp_path: Path) -> None:
    """Results and dead letters refer to rules by id."""
    with pytest.raises(ConfigurationError, match="between_a twice"):
        book_of(
            tmp_path, "{check: between, column: a, min: 0}", "{check: between, column: a, max: 9}"
        )


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.table)
def test_every_rule_says_why_and_what_to_do(book: RuleBook) -> None:
    """A person who is woken at night will read this."""
    for rule in book.rules:
        compiled = expectation(book.table, rule)
        assert rule.note.endswith(".")
        assert rule.remedy.endswith(".")
        assert rule.owner
        assert (compiled["notes"], compiled["meta"]["remedy"]) == (rule.note, rule.remedy)


@pytest.mark.parametrize("contract", BRONZE, ids=lambda contract: contract.name)
def test_every_required_column_of_bronze_is_held_by_a_critical_rule(contract: Contract) -> None:
    """A null there would be committed, and readers that trust the schema fail on the version.

    The partition column is not in the files; writing them refuses rows without a value.
    """
    held = {
        rule.columns[0]
        for rule in rule_book(contract.name).rules
        if rule.check == "not_null" and rule.severity == "critical"
    }
    assert {f.name for f in contract.schema if not f.nullable} - {PARTITION} <= held


def test_whole_vocabulary_is_in_use() -> None:
    """An unused check would rot."""
    assert {rule.check for book in BOOKS for rule in book.rules} == set(CHECKS)


def test_examples_are_of_public_columns_alone() -> None:
    """A status may be shown, a user may not."""
    assert "select" in str(examples("bronze.generations", "in_set_status", "from batch"))
    assert examples("bronze.generations", "between_latency_ms", "from batch") is None


def test_a_profile_may_set_the_share_of_good_rows(tmp_path: Path) -> None:
    """Its row rules tolerate that many bad rows, too."""
    (tmp_path / "bronze.evaluations.yml").write_text("rules: [{check: not_null, column: judge}]")
    own = tmp_path / "own.yml"
    own.write_text("{min_pass_ratio: 0.25, rules: []}")
    usual = read_rule_book(tmp_path / "bronze.evaluations.yml")
    assert usual.min_pass_ratio == 0.99
    assert read_rule_book(tmp_path / "bronze.evaluations.yml", own).min_pass_ratio == 0.25
