"""Split good rows from bad: a suite's row rules as SQL predicates, in one DuckDB scan.

The predicates are compiled from the suite's JSON, so GX and the split apply the same text; a test
compares their counts rule by rule.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.lake.store.duckdb_sessions import identifier, quote
from include.chimera.paths import GX_PROJECT
from include.chimera.quality.rules.book import suite_of
from include.chimera.quality.rules.kinds import sql_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.chimera.quality.rules.suite_format import Expectation, Kwargs

BROKEN = "_broken_rules"
CUT = "…"  # marks a truncated example
_SHOWN = 60  # characters of an example: a value may be anything that somebody sent


def suite_expectations(table: str) -> list[Expectation]:
    """Return the expectations of a table's suite in the GX project."""
    path = GX_PROJECT / "expectations" / f"{suite_of(table).replace('.', '/')}.json"
    expectations: list[Expectation] = json.loads(path.read_text())["expectations"]
    return expectations


def _outside(value: str, kwargs: Kwargs) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    parts = [f"{value} < {sql_literal(low)}"] if low is not None else []
    parts += [f"{value} > {sql_literal(high)}"] if high is not None else []
    return " or ".join(parts) or "false"


def _listed(kwargs: Kwargs) -> str:
    return ", ".join(sql_literal(value) for value in kwargs["value_set"])


_PREDICATES: dict[str, Callable[[str, Kwargs], str]] = {
    "expect_column_values_to_not_be_null": lambda column, _: f"{column} is null",
    "expect_column_values_to_be_between": _outside,
    "expect_column_value_lengths_to_be_between": lambda column, kwargs: _outside(
        f"length({column})", kwargs
    ),
    "expect_column_values_to_be_in_set": lambda column, kwargs: (
        f"{column} not in ({_listed(kwargs)})"
    ),
    "expect_column_values_to_not_be_in_set": lambda column, kwargs: (
        f"{column} in ({_listed(kwargs)})"
    ),
    "expect_column_values_to_match_regex": lambda column, kwargs: (
        f"not regexp_matches({column}, {quote(kwargs['regex'])})"
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": lambda _, kwargs: (
        f"{identifier(kwargs['column_A'])} < {identifier(kwargs['column_B'])}"
    ),
    "expect_column_values_to_be_usual": lambda _, kwargs: f"not ({kwargs['predicate']})",
    "expect_column_values_to_satisfy_predicate": lambda column, kwargs: (
        f"{column} is not null and not ({kwargs['predicate']})"
    ),
}


def broken_predicate(item: Expectation) -> str | None:
    """Return the predicate that is true for rows that break an expectation, as GX counts them.

    None for expectations about the whole table. As in GX, a null breaks only `not_null`: for other
    rules the predicate may be null. Use it where null counts as false, and don't negate it.
    """
    compiled = _PREDICATES.get(item["type"])
    if compiled is None:
        return None
    column = identifier(item["kwargs"].get("column", ""))
    return f"({compiled(column, item['kwargs'])})"


def row_predicates(table: str, severity: str = "critical") -> dict[str, str]:
    """Return the predicate of each row rule of one severity, by rule id."""
    found = {}
    for item in suite_expectations(table):
        predicate = broken_predicate(item)
        if predicate and item["severity"] == severity:
            found[item["meta"]["rule_id"]] = predicate
    return found


def examples(table: str, rule_id: str, rows: str, limit: int = 5) -> str | None:
    """Return a query of the most common values that break a public rule: value, count.

    Values are cut to 60 characters. None if the rule is not public or not a row rule.
    """
    for item in suite_expectations(table):
        predicate = broken_predicate(item)
        if item["meta"]["rule_id"] == rule_id and item["meta"]["is_public"] and predicate:
            value = f"cast({identifier(item['kwargs']['column'])} as varchar)"
            cut = f"case when length({value}) > {_SHOWN} then left({value}, {_SHOWN}) || '{CUT}' "
            return (
                f"select {cut} else {value} end, count(*) from ({rows}) where {predicate} "
                f"group by 1 order by 2 desc, 1 limit {limit}"
            )
    return None


def tagged(table: str, rows: str) -> str:
    """Return a query of the rows with one more column: the ids of the rules that a row breaks."""
    tags = ", ".join(
        f"case when {predicate} then {quote(rule_id)} end"
        for rule_id, predicate in row_predicates(table).items()
    )
    broken = f"list_filter([{tags}], lambda rule: rule is not null)" if tags else "[]::varchar[]"
    return f"select *, {broken} as {BROKEN} from ({rows})"


def good_rows(table: str, rows: str) -> str:
    """Return a query of the rows that break no critical row rule."""
    return f"select * exclude ({BROKEN}) from ({tagged(table, rows)}) where len({BROKEN}) = 0"


def bad_rows(table: str, rows: str) -> str:
    """Return a query of the bad rows as refused records.

    Columns: reason, coordinates, payload, `_window_hour`.
    """
    contract = CONTRACTS[table]
    key = [*contract.key, *(name for name in contract.schema.names if name == "_row_hash")]
    partition = PARTITION if contract.partition_by else f"'' as {PARTITION}"
    return (
        f"select array_to_string({BROKEN}, ',') as reason, {_json(key)} as coordinates, "
        f"encode({_json(contract.schema.names)}) as payload, {partition} "
        f"from ({tagged(table, rows)}) where len({BROKEN}) > 0"
    )


def _json(names: Sequence[str]) -> str:
    """Return an SQL expression that packs these columns into one JSON text."""
    fields = ", ".join(f"{identifier(name)} := {identifier(name)}" for name in names)
    return f"cast(to_json(struct_pack({fields})) as varchar)"
