"""The GX project, compiled from the rules: suites, validation definitions, checkpoints.

The JSON is committed; ids are derived from names, so that compiling twice changes nothing and a
test can tell when rules and suites have drifted apart (`make suites` writes them again).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from include.chimera.paths import GX_PROJECT
from include.chimera.quality.rules import Rule, RuleBook, rule_books

if TYPE_CHECKING:
    from pathlib import Path

DATASOURCE, ASSET, BATCH = "gate", "batch", "whole"
GX_VERSION = "1.24.1"


def stable_id(*names: str) -> str:
    """Return the UUID that always belongs to these names."""
    return str(uuid5(NAMESPACE_URL, "/".join(("chimera", *names))))


def expectation(table: str, rule: Rule) -> dict[str, Any]:
    """Return the GX configuration of a rule."""
    kind, kwargs = _TYPES[rule.check](rule)
    if rule.is_row_rule and rule.mostly < 1:
        kwargs["mostly"] = rule.mostly
    return {
        "type": kind,
        "id": stable_id(table, rule.rule_id),
        "kwargs": kwargs,
        "meta": {"rule_id": rule.rule_id, "owner": rule.owner, "remedy": rule.remedy},
        "notes": rule.note,
        "severity": rule.severity,
    }


def _bounds(rule: Rule) -> dict[str, Any]:
    return {f"{name}_value": rule.bounds[name] for name in ("min", "max") if name in rule.bounds}


def _unique(rule: Rule) -> tuple[str, dict[str, Any]]:
    if len(rule.columns) == 1:
        return "expect_column_values_to_be_unique", {"column": rule.columns[0]}
    return "expect_compound_columns_to_be_unique", {"column_list": list(rule.columns)}


_TYPES: dict[str, Any] = {
    "not_null": lambda rule: (
        "expect_column_values_to_not_be_null",
        {"column": rule.columns[0]},
    ),
    "between": lambda rule: (
        "expect_column_values_to_be_between",
        {"column": rule.columns[0], **_bounds(rule)},
    ),
    "in_set": lambda rule: (
        "expect_column_values_to_be_in_set",
        {"column": rule.columns[0], "value_set": rule.bounds["values"]},
    ),
    "matches": lambda rule: (
        "expect_column_values_to_match_regex",
        {"column": rule.columns[0], "regex": rule.bounds["regex"]},
    ),
    "at_least": lambda rule: (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {
            "column_A": rule.columns[0],
            "column_B": rule.columns[1],
            "or_equal": True,
            "ignore_row_if": "either_value_is_missing",
        },
    ),
    "unique": _unique,
    "row_count": lambda rule: ("expect_table_row_count_to_be_between", _bounds(rule)),
    "columns": lambda rule: (
        "expect_table_columns_to_match_set",
        {"column_set": list(rule.columns), "exact_match": True},
    ),
}


def documents(book: RuleBook) -> dict[str, dict[str, Any]]:
    """Return a table's GX documents by their path in the GX project."""
    table = book.table
    named = {"id": stable_id(table, "suite"), "name": table}
    definition = {"id": stable_id(table, "validation"), "name": table}
    return {
        f"expectations/{table.replace('.', '/')}.json": {
            **named,
            "expectations": [expectation(table, rule) for rule in book.rules],
            "meta": {"great_expectations_version": GX_VERSION},
            "notes": f"Compiled from rules/{table}.yml by `make suites`.",
        },
        f"validation_definitions/{table}.json": {
            **definition,
            "data": {
                "datasource": {"id": stable_id(DATASOURCE), "name": DATASOURCE},
                "asset": {"id": stable_id(DATASOURCE, ASSET), "name": ASSET},
                "batch_definition": {"id": stable_id(DATASOURCE, ASSET, BATCH), "name": BATCH},
            },
            "suite": named,
        },
        f"checkpoints/{table}.json": {
            "id": stable_id(table, "checkpoint"),
            "name": table,
            "actions": [],
            "result_format": {"result_format": "BASIC", "partial_unexpected_count": 0},
            "validation_definitions": [definition],
        },
    }


def drift(project: Path = GX_PROJECT) -> dict[Path, str]:
    """Return the files that differ from the rules, with the text that they should have."""
    wanted = {
        project / path: json.dumps(document, indent=2) + "\n"
        for book in rule_books()
        for path, document in documents(book).items()
    }
    return {
        path: text
        for path, text in wanted.items()
        if not path.is_file() or path.read_text() != text
    }


def write_suites() -> list[Path]:
    """Write what differs from the rules; return the files written."""
    changed = drift()
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(changed)
