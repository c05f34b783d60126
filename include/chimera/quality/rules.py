"""Rules as people write them, and what they mean to GX and to DuckDB.

A rule is one line of `include/gx/rules/<layer>.<table>.yml`: a check, its columns and its bounds.
Checks of single rows have an SQL predicate too, so that the rows that break them can be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import yaml

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import ConfigurationError
from include.chimera.paths import GX_PROJECT

if TYPE_CHECKING:
    from pathlib import Path

Severity = Literal["critical", "warning", "info"]
ROW_CHECKS = ("not_null", "between", "in_set", "matches", "at_least")
_RULES = GX_PROJECT / "rules"


@dataclass(frozen=True)
class Rule:
    """One rule of one table.

    Args:
        check: What is checked: one of `ROW_CHECKS`, `unique`, `row_count` or `columns`.
        columns: The columns it is about; none for `row_count`.
        bounds: `min`, `max`, `values` or `regex`, as the check wants.
        severity: `critical` fails the gate, `warning` and `info` are recorded.
        note: Why the rule stands, in plain words.
        remedy: What to do when it breaks.
        owner: Who answers for it.
        mostly: Share of rows that must keep a row rule for the gate to pass.
    """

    check: str
    columns: tuple[str, ...]
    bounds: dict[str, Any] = field(default_factory=dict)
    severity: Severity = "critical"
    note: str = ""
    remedy: str = (
        "Look at the source's rows of this hour; mend them there and clear the extract task."
    )
    owner: str = "data-platform"
    mostly: float = 1.0

    @property
    def rule_id(self) -> str:
        """Stable id within its table: the check and its columns."""
        names = () if self.check == "columns" else self.columns
        return "_".join((self.check, *names))

    @property
    def is_row_rule(self) -> bool:
        """Whether single rows can break it."""
        return self.check in ROW_CHECKS


@dataclass(frozen=True)
class RuleBook:
    """All rules of one table.

    Args:
        table: `<layer>.<table>`.
        rules: In the order of the file.
        min_pass_ratio: Share of rows that must pass all critical row rules (bronze).
    """

    table: str
    rules: tuple[Rule, ...]
    min_pass_ratio: float

    @property
    def splits_rows(self) -> bool:
        """Whether rows that break a rule are set aside instead of failing the gate."""
        return self.table.startswith("bronze.")

    def row_rules(self) -> list[Rule]:
        """Return the critical rules that single rows can break."""
        return [rule for rule in self.rules if rule.is_row_rule and rule.severity == "critical"]


def rule_books() -> list[RuleBook]:
    """Read every table's rules, sorted by table."""
    return [read_rule_book(path) for path in sorted(_RULES.glob("*.yml"))]


def rule_book(table: str) -> RuleBook:
    """Read one table's rules.

    Raises:
        ConfigurationError: The table has none, or a rule is not understood.
    """
    return read_rule_book(_RULES / f"{table}.yml")


def read_rule_book(path: Path) -> RuleBook:
    """Read the rules of the table that the file is named after.

    Raises:
        ConfigurationError: There is no such file, or a rule is not understood.
    """
    table = path.stem
    if not path.is_file():
        raise ConfigurationError(
            expected=f"rules for the table {table}",
            came="no file",
            where=str(path.name),
            remedy=f"write include/gx/rules/{path.name}, then run `make suites`",
        )
    document = yaml.safe_load(path.read_text())
    ratio = float(document.get("min_pass_ratio", 0.99 if table.startswith("bronze.") else 1.0))
    owner = document.get("owner", "data-platform")
    rules = [_read_rule(table, dict(line), ratio, owner) for line in document["rules"]]
    if table in CONTRACTS:
        names = tuple(CONTRACTS[table].schema.names)
        rules.insert(0, Rule("columns", names, note="The columns are the contract's.", owner=owner))
    return RuleBook(table, tuple(rules), ratio)


def _read_rule(table: str, line: dict[str, Any], ratio: float, owner: str) -> Rule:
    try:
        check = line.pop("check")
        columns = line.pop("columns", None) or [line.pop("column", None)]
        known = {name: line.pop(name) for name in ("severity", "note", "remedy") if name in line}
        mostly = ratio if check in ROW_CHECKS else 1.0
        names = tuple(name for name in columns if name)
        return Rule(check, names, line, owner=line.pop("owner", owner), mostly=mostly, **known)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            expected="a rule with check, column(s) and the check's bounds",
            came=f"{type(error).__name__}: {error}",
            where=f"include/gx/rules/{table}.yml",
            remedy="compare the line with its neighbours",
        ) from error
