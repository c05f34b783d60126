"""The dbt project covers all tables: each is read, described, tested and used."""

import re
from typing import Any

import pytest
import yaml

from include.chimera.contracts import BRONZE
from include.chimera.paths import DBT_PROJECT, PROJECT
from include.chimera.quality.rules.book import rule_books

MODELS = DBT_PROJECT / "models"
SQL = {path.stem: path for path in MODELS.rglob("*.sql")}
MARTS = sorted(name for name, path in SQL.items() if "marts" in path.parts)


YAML = [yaml.load(path.read_text(), yaml.CSafeLoader) for path in sorted(MODELS.rglob("*.yml"))]
BOOKS = {book.table: book for book in rule_books()}


def documented(kind: str) -> list[dict[str, Any]]:
    """Return the entries of one kind from the YAML files."""
    return [entry for file in YAML for entry in file.get(kind, [])]


INCREMENTAL = sorted(
    name
    for name, path in SQL.items()
    if {"staging", "hourly", "daily"} & {*path.parts} and "materialized=" not in path.read_text()
)
DOCUMENTED = {entry["name"]: entry for entry in documented("models")}
DELETABLE = sorted(
    name
    for name, path in SQL.items()
    if re.search(r"^ +_is_deleted,$", path.read_text(), re.MULTILINE)
)
REF = re.compile(r"ref\('(\w+)'\)")
# What a sample of rows decides better than a reader of SQL does.
LOGIC = re.compile(r"\bcase\b|\bover \(|\bregexp_|\bis_incremental\(|\bnewest\(")


def readers(pattern: str) -> list[str]:
    """Return the models whose SQL matches the pattern."""
    return [name for name, path in SQL.items() if re.search(pattern, path.read_text())]


def reads(model: str) -> list[str]:
    """Return each query of a parent, from its name on."""
    found = re.split(r"from \{\{ (?:ref|source)\('", SQL[model].read_text())[1:]
    return [read.split("\n)")[0] for read in found]


def grain(entry: dict[str, Any]) -> set[str]:
    """Return the columns of the data test that defines a model's grain."""
    combined = [
        test["unique_combination"]["arguments"]["columns"]
        for test in entry.get("data_tests", [])
        if "unique_combination" in test
    ]
    single = [col["name"] for col in entry["columns"] if "unique" in col.get("data_tests", [])]
    return {*(combined[0] if combined else single)}


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
    """An ephemeral model is not a table: its readers are tested instead."""
    assert DOCUMENTED[model]["description"].startswith("One row per ")
    assert model.startswith("int_") or grain(DOCUMENTED[model])


@pytest.mark.parametrize("model", INCREMENTAL)
def test_an_incremental_model_opens_only_what_changed_of_each_parent(model: str) -> None:
    """Without the predicate its rows are right, but each hour costs as much as all history."""
    predicates = [re.search(r"\{\{ (?:touched|arrived)\(", read) for read in reads(model)]
    assert predicates
    assert None not in predicates


@pytest.mark.parametrize("model", sorted({*SQL} - {*DELETABLE}))
def test_rows_that_are_gone_from_the_source_are_left_out(model: str) -> None:
    """Facts leave them out for all their readers; staging keeps them, for the next version."""
    counted = [
        read
        for read in reads(model)
        if read.split("'")[0] in DELETABLE and "_is_deleted is not true" not in read
    ]
    assert not counted


@pytest.mark.parametrize(
    "model", sorted(name for name in SQL if LOGIC.search(SQL[name].read_text()))
)
def test_a_model_that_decides_has_a_unit_test(model: str) -> None:
    assert model in {test["model"] for test in documented("unit_tests")}


@pytest.mark.parametrize("model", sorted(name for name in SQL if not name.startswith("int_")))
def test_dbt_and_the_gate_hold_a_model_to_the_same_grain(model: str) -> None:
    """Each defines it separately, so an extra or different column is noticed."""
    book = BOOKS[f"{'gold' if model in MARTS else 'silver'}.{model}"]
    unique = [{*rule.columns} for rule in book.rules if rule.check == "unique"]
    assert unique == [grain(DOCUMENTED[model])]


@pytest.mark.parametrize("mart", MARTS)
def test_each_mart_is_read_by_a_model_or_a_person(mart: str) -> None:
    """A person reads it through an exposure, which names whom to tell when the mart changes."""
    exposed = {parent for entry in documented("exposures") for parent in entry["depends_on"]}
    assert f"ref('{mart}')" in exposed or readers(rf"ref\('{mart}'\)")


@pytest.mark.parametrize("exposure", documented("exposures"), ids=lambda each: each["name"])
def test_an_exposure_is_a_page_that_names_what_it_reads(exposure: dict[str, Any]) -> None:
    """What nobody can open would be a reader whom nobody can ask."""
    place, _, section = exposure["url"].partition("#")
    text = (PROJECT / place).read_text()
    if section:
        text = text.split(f"## {section.capitalize().replace('-', ' ')}\n")[1]
    unread = [name for name in REF.findall(" ".join(exposure["depends_on"])) if name not in text]
    assert not unread


@pytest.mark.parametrize("mart", MARTS)
def test_a_marts_rules_know_each_of_its_columns(mart: str) -> None:
    """A column without rules could change its type, or vanish, unnoticed by the gate."""
    assert list(BOOKS[f"gold.{mart}"].types) == [
        column["name"] for column in DOCUMENTED[mart]["columns"]
    ]
