"""Read rules from YAML: one line of `include/gx/rules/<layer>.<table>.yml` per rule.

A line gives a check (`kinds.CHECKS`), its column or columns, and the check's bounds. Owner,
severity, note and remedy have defaults. A profile may add rules to a bronze table that it fills,
replace some by their ids, and set `min_pass_ratio`:
`include/profiles/<name>/rules/bronze.<table>.yml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, cast, get_args

import pyarrow as pa
import yaml

from include.chimera.contracts import BRONZE, CONTRACTS
from include.chimera.errors import ConfigurationError
from include.chimera.paths import GX_PROJECT
from include.chimera.profiles.chosen import PROFILES, filled_tables, intakes
from include.chimera.quality.rules.kinds import CHECKS
from include.chimera.quality.rules.suite_format import Scalar, Severity
from include.chimera.relation import Relation

if TYPE_CHECKING:
    from pathlib import Path

RULES = GX_PROJECT / "rules"
_REMEDIES = {
    "bronze": "Look at the source's rows of this hour; mend them there and clear the extract task.",
    "silver": "Look at the model's SQL and at its bronze rows; mend them and clear the model.",
    "gold": "Look at the model's SQL and at its parents' rows; mend them and clear the model.",
}
_DUCKDB_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "date32[day]": "DATE",
    "binary": "BLOB",
    "list<item: string>": "VARCHAR[]",
    "list<element: string>": "VARCHAR[]",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
}


class Bounds(TypedDict, total=False):
    """The bounds that checks take besides columns; `kinds.CHECKS` says which takes which."""

    min: float
    max: float
    values: list[Scalar]
    regex: str
    sql: str
    table: str
    key: str
    allow: list[Scalar]
    before_hours: int
    after_hours: int
    within_minutes: int
    floor: float
    times: float
    exact: bool
    types: dict[str, str]


class _Common(TypedDict, total=False):
    check: str
    column: str
    columns: list[str]
    id: str
    severity: Severity
    note: str
    remedy: str
    owner: str
    mostly: float
    public: bool


class RuleLine(_Common, Bounds):
    """One line of a rule file."""


@dataclass(frozen=True)
class Rule:
    """One rule of one table.

    Args:
        check: One of `kinds.CHECKS`.
        columns: The columns to check; none for `row_count`.
        bounds: The check's other arguments, e.g. `min`, `values` or `regex`.
        severity: `critical` fails the gate; `warning` and `info` are only recorded.
        note: Why the rule exists, in plain words.
        remedy: What to do when the rule fails.
        owner: Who is responsible for the rule.
        mostly: Share of rows, 0 to 1, that must pass a row rule for GX to pass it.
        is_public: Whether results and reports may show values that break the rule.
        name: The rule's id, if the default won't do.
    """

    check: str
    columns: tuple[str, ...]
    bounds: Bounds = field(default_factory=Bounds)
    severity: Severity = "critical"
    note: str = ""
    remedy: str = _REMEDIES["bronze"]
    owner: str = "data-platform"
    mostly: float = 1.0
    is_public: bool = False
    name: str | None = None

    @property
    def rule_id(self) -> str:
        """Id that is stable within the table: `name`, else the check and its columns."""
        names = () if self.check in ("columns", "types") else self.columns
        return self.name or "_".join((self.check, *names))

    @property
    def is_row_rule(self) -> bool:
        """Whether the rule applies to single rows."""
        return CHECKS[self.check].is_row_check


@dataclass(frozen=True)
class RuleBook:
    """All rules of one table.

    Args:
        table: `<layer>.<table>`.
        rules: In the file's order.
        min_pass_ratio: Share of rows, 0 to 1, that must pass all critical row rules (bronze).
        types: DuckDB type by column, from the contract or the file.
        profile: The profile whose own rules are among them; "": none.
    """

    table: str
    rules: tuple[Rule, ...]
    min_pass_ratio: float
    types: dict[str, str] = field(default_factory=dict)
    profile: str = ""

    @property
    def suite(self) -> str:
        """The name of the suite that they are compiled to."""
        return f"{self.table}.{self.profile}" if self.profile else self.table

    @property
    def splits_rows(self) -> bool:
        """Whether rows that break a rule are set aside instead of failing the gate."""
        return self.table.startswith("bronze.")

    @property
    def watches_values(self) -> bool:
        """Whether any rule compares values with the table's own history."""
        return any(rule.check == "usual" for rule in self.rules)

    @property
    def watches_closed_hours(self) -> bool:
        """Whether any rule limits how many keys of earlier hours may change."""
        return any(rule.check == "closed_hours" for rule in self.rules)

    def row_rules(self) -> list[Rule]:
        """Return the critical rules that apply to single rows."""
        return [rule for rule in self.rules if rule.is_row_rule and rule.severity == "critical"]

    def references(self) -> list[tuple[str, str]]:
        """Return the tables and key columns that rules refer to, each once."""
        found = {
            (str(rule.bounds["table"]), str(rule.bounds["key"]))
            for rule in self.rules
            if rule.check == "refers_to"
        }
        return sorted(found)


def rule_books() -> list[RuleBook]:
    """Read every table's rules, sorted by table, as the chosen profiles have them."""
    return [rule_book(path.stem) for path in sorted(RULES.glob("*.yml"))]


def all_rule_books() -> list[RuleBook]:
    """Read every table's rules as each profile has them, and as one without its own would."""
    own = sorted(PROFILES.glob("*/rules/*.yml"))
    return [
        read_rule_book(path, added)
        for path in sorted(RULES.glob("*.yml"))
        for added in (None, *(each for each in own if each.name == path.name))
    ]


def gated_tables() -> list[str]:
    """Return the names of all tables that have a gate, sorted, without reading a rule.

    A bronze table that no chosen profile fills has none.
    """
    unfilled = {contract.name for contract in BRONZE} - set(filled_tables())
    names = sorted(path.stem for path in RULES.glob("*.yml"))
    return [name for name in names if name not in unfilled]


def rule_book(table: str) -> RuleBook:
    """Read one table's rules, as the chosen profiles have them.

    Raises:
        ConfigurationError: The table has no rules, or a rule is invalid.
    """
    return read_rule_book(RULES / f"{table}.yml", _own_rules(table))


def suite_of(table: str) -> str:
    """Return the name of a table's suite, without reading a rule."""
    own = _own_rules(table)
    return f"{table}.{_profile(own)}" if own else table


def _own_rules(table: str) -> Path | None:
    return next((each.rules for each in intakes() if each.contract.name == table), None)


def _profile(own: Path) -> str:
    return own.parents[1].name


def read_rule_book(path: Path, own: Path | None = None) -> RuleBook:
    """Read the rules of the table that the file is named after.

    Args:
        path: The rules that the table's rows keep, whatever fills it.
        own: Those of a profile, which are added, or replace rules of the same id; so does its
            `min_pass_ratio`.

    Raises:
        ConfigurationError: The file is missing, or a rule is invalid.
    """
    table = path.stem
    if not path.is_file():
        raise ConfigurationError(
            expected=f"rules for the table {table}",
            came="no file",
            where=str(path.name),
            remedy=f"write include/gx/rules/{path.name}, then run `make suites`",
        )
    document = yaml.load(path.read_text(), yaml.CSafeLoader)  # six times as fast as SafeLoader
    added = yaml.load(own.read_text(), yaml.CSafeLoader) if own else {}
    usual = document.get("min_pass_ratio", 0.99 if table.startswith("bronze.") else 1.0)
    ratio = float(added.get("min_pass_ratio", usual))
    defaults: RuleLine = {
        "owner": document.get("owner", "data-platform"),
        "remedy": document.get("remedy", _REMEDIES[Relation.parse(table).schema]),
    }
    types = _contract_types(table) or dict(document.get("columns", {}))
    shape: list[RuleLine] = [
        {"check": "columns", "columns": list(types), "exact": table in CONTRACTS},
        {"check": "types", "types": types},
    ]
    lines: list[RuleLine] = [*(shape if types else []), *document["rules"]]
    rules = _read_rules(table, defaults, lines, ratio)
    if own:
        rules |= _read_rules(table, defaults, added.get("rules", []), ratio)
    return RuleBook(table, tuple(rules.values()), ratio, types, _profile(own) if own else "")


def _read_rules(
    table: str, defaults: RuleLine, lines: list[RuleLine], ratio: float
) -> dict[str, Rule]:
    """Return the rules of one file by id, in its order."""
    rules = [_read_rule(table, {**defaults, **line}, ratio) for line in lines]
    names = [rule.rule_id for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _misread(table, f"the id {', '.join(twice)} twice", "give one of the lines an `id`")
    return dict(zip(names, rules, strict=True))


def _contract_types(table: str) -> dict[str, str]:
    """Return DuckDB's type for each column of a contract; {} for tables that dbt builds."""
    if table not in CONTRACTS:
        return {}
    return {column.name: duckdb_type(column.type) for column in CONTRACTS[table].schema}


def duckdb_type(kind: pa.DataType) -> str:
    """Return DuckDB's name for an Arrow type."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _DUCKDB_TYPES[str(kind)]


def _read_rule(table: str, line: RuleLine, ratio: float) -> Rule:
    name, severity = line.get("check", ""), line.get("severity", "critical")
    check = CHECKS.get(name)
    if check is None:
        raise _misread(table, "a line without a known check", f"use one of {', '.join(CHECKS)}")
    columns = tuple(line.get("columns") or filter(None, [line.get("column")]))
    known = _Common.__annotations__.keys() - ({"column"} if line.get("columns") else set())
    bounds = {key: value for key, value in line.items() if key not in known}
    missing = [key for key in check.required if key not in bounds]
    unknown = [key for key in bounds if key not in (*check.required, *check.optional)]
    if missing or unknown or severity not in get_args(Severity):
        wrong = ", ".join([*missing, *unknown]) or "severity"
        raise _misread(table, f"{name} with a missing or unknown {wrong}", "compare the neighbours")
    is_watch = name == "usual"
    if is_watch and not all(
        isinstance(bound, int | float) and bound > 0 for bound in bounds.values()
    ):
        raise _misread(table, "a bound of usual that is not above zero", "compare the neighbours")
    if name == "closed_hours" and (
        table.startswith("bronze.") or not 0 <= float(line.get("max", 0)) <= 1
    ):
        wrong = "closed_hours on a source's rows, or with a max that is no share"
        raise _misread(table, wrong, "give it to a model's table, with a max from 0 to 1")
    # Report the very first unusual value, whatever share of rows passes.
    is_told_at_once = is_watch and severity != "critical"
    share = ratio if check.is_row_check and not is_told_at_once else 1.0
    note = check.note.format(columns=" and ".join(columns) or "the table", **bounds)
    return Rule(
        name,
        columns,
        cast("Bounds", bounds),
        severity=severity,
        note=line.get("note", note),
        remedy=line["remedy"],
        owner=line["owner"],
        mostly=float(line.get("mostly", share)),
        is_public=bool(line.get("public", False)),
        name=line.get("id"),
    )


def _misread(table: str, came: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        expected="a rule with a check, its column or columns and the check's bounds",
        came=came,
        where=f"include/gx/rules/{table}.yml",
        remedy=remedy,
    )
