"""The dbt project leaves no table out: each is read, described, tested and wanted."""

import re
from typing import Any

import pytest
import yaml

from include.chimera.contracts import BRONZE
from include.chimera.paths import DBT_PROJECT
from include.chimera.quality.rules.book import rule_book

MODELS = DBT_PROJECT / "models"
SQL = {path.stem: path for path in MODELS.rglob("*.sql")}
MARTS = sorted(name for name, path in SQL.items() if "marts" in path.parts)


def documented(kind: str) -> list[dict[str, Any]]:
    """Return the entries of one kind that stand in the YAML files."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(MODELS.rglob("*.yml"))]
    return [entry for file in files for entry in file.get(kind, [])]


INCREMENTAL = sorted(
    name
    for name, path in SQL.items()
    if {"staging", "hourly", "daily"} & {*path.parts} and "materialized=" not in path.read_text()
)
DOCUMENTED = {entry["name"]: entry for entry in documented("models")}


def readers(pattern: str) -> list[str]:
    """Return the models whose SQL holds the pattern."""
    return [name for name, path in SQL.items() if re.search(pattern, path.read_text())]


@pytest.mark.parametrize("table", [contract.table for contract in BRONZE])
def test_each_bronze_table_is_a_source_that_a_staging_model_reads(table: str) -> None:
    """Without one the table would be filled each hour for nobody."""
    found = readers(rf"source\('\w+', '{table}'\)")
    assert [SQL[name].relative_to(MODELS).parts[0] for name in found] == ["staging"]


@pytest.mark.parametrize("table", [contract.table for contract in BRONZE])
def test_each_source_says_when_it_is_stale_or_that_it_never_is(table: str) -> None:
    tables = [each for source in documented("sources") for each in source["tables"]]
    config = next(each for each in tables if each["name"] == table)["config"]
    assert "loaded_at_field" in config or config["freshness"] is None


@pytest.mark.parametrize("model", sorted(SQL))
def test_each_model_is_described_and_its_grain_is_tested(model: str) -> None:
    """An ephemeral model is no table: those that read it are tested."""
    entry = DOCUMENTED[model]
    assert entry["description"].startswith("One row per ")
    listed = [test for each in (entry, *entry["columns"]) for test in each.get("data_tests", [])]
    names = {test if isinstance(test, str) else next(iter(test)) for test in listed}
    assert model.startswith("int_") or names & {"unique", "unique_combination"}


@pytest.mark.parametrize("model", INCREMENTAL)
def test_an_incremental_model_opens_only_what_changed_of_each_parent(model: str) -> None:
    """Without the predicate its rows are right, and its hour costs as much as the history."""
    reads = re.split(r"from \{\{ (?:ref|source)\(", SQL[model].read_text())[1:]
    predicates = [re.search(r"\{\{ (?:touched|arrived)\(", read.split("\n)")[0]) for read in reads]
    assert predicates
    assert None not in predicates


@pytest.mark.parametrize("mart", MARTS)
def test_each_mart_is_read_by_a_model_or_a_person(mart: str) -> None:
    """By a person: through an exposure, which says who is told when the mart changes."""
    exposed = {parent for entry in documented("exposures") for parent in entry["depends_on"]}
    assert f"ref('{mart}')" in exposed or readers(rf"ref\('{mart}'\)")


@pytest.mark.parametrize("mart", MARTS)
def test_a_marts_rules_know_each_of_its_columns(mart: str) -> None:
    """A column that they leave out may change its type, or go, unseen by the gate."""
    assert list(rule_book(f"gold.{mart}").types) == [
        column["name"] for column in DOCUMENTED[mart]["columns"]
    ]
