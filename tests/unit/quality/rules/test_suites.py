"""The GX project is what its rules compile to, and the rules are complete."""

import json

import pytest

from include.chimera.contracts import BRONZE
from include.chimera.errors import ConfigurationError
from include.chimera.paths import DBT_PROJECT
from include.chimera.quality.rules.book import RuleBook, rule_book, rule_books
from include.chimera.quality.rules.good_and_bad_rows import row_predicates
from include.chimera.quality.rules.suites import documents, drift


def test_committed_suites_are_what_the_rules_compile_to() -> None:
    """`make suites` was run after the last change of a rule."""
    assert [path.name for path in drift()] == []


def test_every_published_table_has_rules() -> None:
    """A table without rules would have no gate."""
    models = {
        f"{layer}.{path.stem}"
        for layer, folder in (("silver", "staging"), ("gold", "marts"))
        for path in (DBT_PROJECT / "models" / folder).rglob("*.sql")
    }
    assert {book.table for book in rule_books()} == models | {table.name for table in BRONZE}


@pytest.mark.parametrize("book", rule_books(), ids=lambda book: book.table)
def test_rules_of_a_table_have_ids_of_their_own(book: RuleBook) -> None:
    """Results and dead letters name rules by id; GX by uuid."""
    ids = [rule.rule_id for rule in book.rules]
    assert len(ids) == len(set(ids))
    text = json.dumps(documents(book))
    assert all(f'"{rule_id}"' in text for rule_id in ids)


@pytest.mark.parametrize("contract", BRONZE, ids=lambda contract: contract.name)
def test_every_critical_row_rule_of_bronze_can_split_rows(contract) -> None:
    """With a rule known only to GX, the split would publish bad rows."""
    book = rule_book(contract.name)
    assert set(row_predicates(contract.name)) == {rule.rule_id for rule in book.row_rules()}


def test_a_table_without_rules_is_a_clear_error() -> None:
    """It names the file to write."""
    with pytest.raises(ConfigurationError, match=r"gold\.nothing\.yml"):
        rule_book("gold.nothing")
