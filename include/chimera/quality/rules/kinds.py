"""The kinds of rules: each check's default note and GX expectation.

A row check becomes a GX expectation with `mostly`; the expectation's JSON also compiles to the SQL
predicate that is true for rows that break it (see `good_and_bad_rows`). A table check has no
predicate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.chimera.quality.rules.book import Rule
    from include.chimera.quality.rules.suite_format import Kwargs

Configuration: TypeAlias = "tuple[str, Kwargs]"
GREATEST_DOUBLE = 1.7976931348623157e308  # Source: IEEE 754, binary64


@dataclass(frozen=True)
class Check:
    """One kind of rule.

    Args:
        note: The requirement in plain words; `{columns}` and the rule's bounds are filled in.
        compile: Turns a rule into GX's expectation type and kwargs.
        is_row_check: Whether it applies to single rows.
        required: Bounds that a line must give.
        optional: Bounds that a line may give.
    """

    note: str
    compile: Callable[[Rule], Configuration]
    is_row_check: bool = False
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def sql_name(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_literal(value: object) -> str:
    """Return a YAML scalar as an SQL literal."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def keys_relation(table: str, key: str) -> str:
    """Return the name of the relation that holds another table's known keys."""
    return f"keys_{table.replace('.', '_')}_{key}"


def _column(rule: Rule, **more: Unpack[Kwargs]) -> Kwargs:
    return {"column": rule.columns[0], **more}


def _bounds(rule: Rule) -> Kwargs:
    limits: Kwargs = {}
    if "min" in rule.bounds:
        limits["min_value"] = rule.bounds["min"]
    if "max" in rule.bounds:
        limits["max_value"] = rule.bounds["max"]
    return limits


def _predicate(rule: Rule, predicate: str) -> Configuration:
    return (
        "expect_column_values_to_satisfy_predicate",
        _column(rule, predicate=predicate),
    )


def _statistic(rule: Rule, function: str) -> Configuration:
    return (
        "expect_good_rows_statistic_to_be_between",
        {"column": rule.columns[0], "function": function, **_bounds(rule)},
    )


def _refers_to(rule: Rule) -> Configuration:
    key = rule.bounds["key"]
    keys, column = keys_relation(rule.bounds["table"], key), sql_name(rule.columns[0])
    allowed = ", ".join(sql_literal(value) for value in rule.bounds.get("allow", ()))
    exempt = f"{column} in ({allowed}) or " if allowed else ""
    return _predicate(
        rule,
        f"{exempt}not exists (from {keys}) or {column} in (select {sql_name(key)} from {keys})",
    )


def _in_window(rule: Rule) -> Configuration:
    column, after = sql_name(rule.columns[0]), rule.bounds.get("after_hours", 0)
    upper = f"{column} < (select window_end from run) + interval {after} hours"
    if "before_hours" not in rule.bounds:
        return _predicate(rule, upper)
    before = rule.bounds["before_hours"]
    return _predicate(
        rule, f"{upper} and {column} >= (select window_start from run) - interval {before} hours"
    )


def _usual(rule: Rule) -> Configuration:
    column, rule_id = sql_name(rule.columns[0]), sql_literal(rule.rule_id)
    limit = f"(select max(upper) from usual where rule_id = {rule_id})"
    return (
        "expect_column_values_to_be_usual",
        # Without a limit the comparison is null, and nothing is unusual.
        _column(rule, predicate=f"not (isfinite({column}) and {column} > {limit})", function="max"),
    )


def _unique(rule: Rule) -> Configuration:
    if len(rule.columns) == 1:
        return "expect_column_values_to_be_unique", _column(rule)
    return "expect_compound_columns_to_be_unique", {"column_list": list(rule.columns)}


def _at_least(rule: Rule) -> Configuration:
    return (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {
            "column_A": rule.columns[0],
            "column_B": rule.columns[1],
            "or_equal": True,
            "ignore_row_if": "either_value_is_missing",
        },
    )


def _types(rule: Rule) -> Configuration:
    wanted = ", ".join(
        f"({sql_literal(name)}, {sql_literal(kind)})" for name, kind in rule.bounds["types"].items()
    )
    return (
        "unexpected_rows_expectation",
        {
            "unexpected_rows_query": "select 1 as broken from (select column_name, column_type "
            "from (describe select * from {batch})) as found "
            f"join (values {wanted}) as wanted (column_name, column_type) using (column_name) "
            "where found.column_type <> wanted.column_type"
        },
    )


def _fresh(rule: Rule) -> Configuration:
    column, minutes = sql_name(rule.columns[0]), rule.bounds["within_minutes"]
    return (
        "unexpected_rows_expectation",
        {
            "unexpected_rows_query": f"select 1 as broken from (select max({column}) as newest "
            f"from {{batch}} where {column} < (select window_end from run)) "
            f"where newest < (select window_end from run) - interval {minutes} minutes"
        },
    )


CHECKS: dict[str, Check] = {
    "not_null": Check(
        "{columns} is always known.",
        lambda rule: ("expect_column_values_to_not_be_null", _column(rule)),
        is_row_check=True,
    ),
    "between": Check(
        "{columns} lies within its bounds and is a number.",
        lambda rule: ("expect_column_values_to_be_between", _column(rule, **_bounds(rule))),
        is_row_check=True,
        optional=("min", "max"),
    ),
    "finite": Check(
        "{columns} is neither NaN nor infinite.",
        lambda rule: (
            "expect_column_values_to_be_between",
            _column(rule, min_value=-GREATEST_DOUBLE, max_value=GREATEST_DOUBLE),
        ),
        is_row_check=True,
    ),
    "in_set": Check(
        "{columns} has one of the known values.",
        lambda rule: (
            "expect_column_values_to_be_in_set",
            _column(rule, value_set=rule.bounds["values"]),
        ),
        is_row_check=True,
        required=("values",),
    ),
    "not_in_set": Check(
        "{columns} has none of the forbidden values.",
        lambda rule: (
            "expect_column_values_to_not_be_in_set",
            _column(rule, value_set=rule.bounds["values"]),
        ),
        is_row_check=True,
        required=("values",),
    ),
    "matches": Check(
        "{columns} is written in its format.",
        lambda rule: (
            "expect_column_values_to_match_regex",
            _column(rule, regex=rule.bounds["regex"]),
        ),
        is_row_check=True,
        required=("regex",),
    ),
    "length": Check(
        "{columns} is neither too short nor too long.",
        lambda rule: ("expect_column_value_lengths_to_be_between", _column(rule, **_bounds(rule))),
        is_row_check=True,
        optional=("min", "max"),
    ),
    "at_least": Check("The first of {columns} is never below the second.", _at_least, True),
    "in_window": Check(
        "{columns} lies within the run's window and what it may look back on.",
        _in_window,
        is_row_check=True,
        optional=("before_hours", "after_hours"),
    ),
    "refers_to": Check(
        "{columns} is known to {table}.",
        _refers_to,
        is_row_check=True,
        required=("table", "key"),
        optional=("allow",),
    ),
    "holds": Check(
        "{sql} wherever {columns} is known.",
        lambda rule: _predicate(rule, rule.bounds["sql"]),
        is_row_check=True,
        required=("sql",),
    ),
    "usual": Check(
        "No {columns} lies far beyond the largest ones of the last days' hours.",
        _usual,
        is_row_check=True,
        required=("floor",),
        optional=("times",),
    ),
    "unique": Check("No two rows have the same {columns}.", _unique),
    "row_count": Check(
        "The number of rows lies within its bounds.",
        lambda rule: ("expect_table_row_count_to_be_between", _bounds(rule)),
        optional=("min", "max"),
    ),
    "columns": Check(
        "All columns are there.",
        lambda rule: (
            "expect_table_columns_to_match_set",
            {"column_set": list(rule.columns), "exact_match": rule.bounds["exact"]},
        ),
        required=("exact",),
    ),
    "types": Check("Each column has its type.", _types, required=("types",)),
    "fresh": Check(
        "The newest {columns} lies within {within_minutes} minutes of the window's end.",
        _fresh,
        required=("within_minutes",),
    ),
    "closed_hours": Check(
        "Of the keys of hours before the run's, at most {max:.0%} change or go without a person.",
        lambda rule: ("expect_closed_keys_to_be_kept", _bounds(rule)),
        required=("max",),
    ),
    "mean": Check(
        "The mean of {columns} lies where it has always been.",
        lambda rule: _statistic(rule, "avg"),
        optional=("min", "max"),
    ),
    "stdev": Check(
        "The spread of {columns} lies where it has always been.",
        lambda rule: _statistic(rule, "stddev_samp"),
        optional=("min", "max"),
    ),
    "distinct_count": Check(
        "The number of different {columns} lies within its bounds.",
        lambda rule: (
            "expect_column_unique_value_count_to_be_between",
            _column(rule, **_bounds(rule)),
        ),
        optional=("min", "max"),
    ),
}
