"""Compile the rules to a GX project: suites, validation definitions, checkpoints.

The JSON is committed. Ids are derived from names, so compiling twice changes nothing and a test
detects drift between rules and suites (`make suites` rewrites them).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from include.chimera.lake.staged.verdicts import RATIO_RULE
from include.chimera.paths import GX_PROJECT
from include.chimera.quality.rules.book import all_rule_books
from include.chimera.quality.rules.good_and_bad_rows import broken_predicate
from include.chimera.quality.rules.kinds import CHECKS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.chimera.quality.rules.book import Rule, RuleBook
    from include.chimera.quality.rules.suite_format import Expectation

# Checks that aggregate rows: they use good rows only.
STATISTICS = ("mean", "stdev", "usual")
DATASOURCE, ASSET, BATCH = "gate", "batch", "whole"
GX_VERSION = "1.24.1"
_COMPILED = ("expectations", "validation_definitions", "checkpoints")


def stable_id(*names: str) -> str:
    """Return a deterministic UUID for these names."""
    return str(uuid5(NAMESPACE_URL, "/".join(("chimera", *names))))


def expectation(suite: str, rule: Rule) -> Expectation:
    """Return the GX configuration of a suite's rule."""
    kind, kwargs = CHECKS[rule.check].compile(rule)
    if rule.is_row_rule and rule.mostly < 1:
        kwargs["mostly"] = rule.mostly
    return {
        "type": kind,
        "id": stable_id(suite, rule.rule_id),
        "kwargs": kwargs,
        "meta": {
            "rule_id": rule.rule_id,
            "check": rule.check,
            "columns": list(rule.columns) if rule.check not in ("columns", "types") else [],
            "owner": rule.owner,
            "remedy": rule.remedy,
            "is_public": rule.is_public,
        },
        "notes": rule.note,
        "severity": rule.severity,
    }


def _broken(expectations: list[Expectation]) -> str:
    """Return the predicate that is true for rows that break a critical row rule."""
    critical = [item for item in expectations if item["severity"] == "critical"]
    return " or ".join(filter(None, map(broken_predicate, critical))) or "false"


def pass_ratio(book: RuleBook, broken: str) -> Expectation:
    """Return the rule that enough rows pass all critical row rules."""
    return {
        "type": "expect_row_pass_ratio_to_be_at_least",
        "id": stable_id(book.suite, RATIO_RULE),
        "kwargs": {"broken": broken, "min_value": book.min_pass_ratio},
        "meta": {
            "rule_id": RATIO_RULE,
            "check": "pass_ratio",
            "columns": [],
            "owner": book.rules[0].owner,
            "remedy": book.rules[0].remedy,
            "is_public": False,
        },
        "notes": f"At least {book.min_pass_ratio:.1%} of the rows break no critical row rule.",
        "severity": "critical",
    }


def documents(book: RuleBook) -> dict[str, Mapping[str, object]]:
    """Return a table's GX documents by their path in the GX project."""
    suite = book.suite
    expectations = [expectation(suite, rule) for rule in book.rules]
    broken = _broken(expectations)
    others = _broken([item for item in expectations if item["meta"]["check"] != "usual"])
    for item in expectations:
        if (check := item["meta"]["check"]) in STATISTICS:
            # Refused outliers still count as history: what happens often becomes usual.
            item["kwargs"]["broken"] = others if check == "usual" else broken
    if book.splits_rows:
        expectations.append(pass_ratio(book, broken))
    named = {"id": stable_id(suite, "suite"), "name": suite}
    definition = {"id": stable_id(suite, "validation"), "name": suite}
    files = f"rules/{book.table}.yml"
    if book.profile:
        files += f" and include/profiles/{book.profile}/rules"
    return {
        f"expectations/{suite.replace('.', '/')}.json": {
            **named,
            "expectations": expectations,
            "meta": {"great_expectations_version": GX_VERSION},
            "notes": f"Compiled from {files} by `make suites`.",
        },
        f"validation_definitions/{suite}.json": {
            **definition,
            "data": {
                "datasource": {"id": stable_id(DATASOURCE), "name": DATASOURCE},
                "asset": {"id": stable_id(DATASOURCE, ASSET), "name": ASSET},
                "batch_definition": {"id": stable_id(DATASOURCE, ASSET, BATCH), "name": BATCH},
            },
            "suite": named,
        },
        f"checkpoints/{suite}.json": {
            "id": stable_id(suite, "checkpoint"),
            "name": suite,
            "actions": [],
            "result_format": {"result_format": "BASIC", "partial_unexpected_count": 0},
            "validation_definitions": [definition],
        },
    }


def drift(project: Path = GX_PROJECT) -> dict[Path, str | None]:
    """Return the files that differ from the rules, with the text to write (None: delete)."""
    wanted = {
        project / path: json.dumps(document, indent=2) + "\n"
        for book in all_rule_books()
        for path, document in documents(book).items()
    }
    kept = [path for folder in _COMPILED for path in (project / folder).rglob("*.json")]
    changed = {path: text for path, text in wanted.items() if _text(path) != text}
    return {**changed, **{path: None for path in kept if path not in wanted}}


def write_suites() -> list[Path]:
    """Write or delete the files that differ from the rules; return their paths."""
    changed = drift()
    for path, text in changed.items():
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(changed)


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
