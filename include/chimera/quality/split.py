"""Good rows from bad: the row rules of a suite as SQL predicates, in one DuckDB scan.

The predicates are compiled from the suite's own JSON, so that GX and the split judge by the same
text; a test compares their counts rule by rule.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.lake.engine import identifier, quote
from include.chimera.paths import GX_PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BROKEN = "_broken_rules"


def suite_expectations(table: str) -> list[dict[str, Any]]:
    """Return the expectations of a table's suite as they stand in the GX project."""
    path = GX_PROJECT / "expectations" / f"{table.replace('.', '/')}.json"
    expectations: list[dict[str, Any]] = json.loads(path.read_text())["expectations"]
    return expectations


def _between(column: str, kwargs: dict[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    parts = [f"{column} < {_literal(low)}"] if low is not None else []
    parts += [f"{column} > {_literal(high)}"] if high is not None else []
    return " or ".join(parts)


def _literal(value: object) -> str:
    return quote(value) if isinstance(value, str) else str(value)


def _in_set(column: str, kwargs: dict[str, Any]) -> str:
    return f"{column} not in ({', '.join(_literal(value) for value in kwargs['value_set'])})"


_PREDICATES: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "expect_column_values_to_not_be_null": lambda column, _: f"{column} is null",
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_match_regex": lambda column, kwargs: (
        f"not regexp_matches({column}, {quote(kwargs['regex'])})"
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": lambda _, kwargs: (
        f"{identifier(kwargs['column_A'])} < {identifier(kwargs['column_B'])}"
    ),
}


def row_predicates(table: str) -> dict[str, str]:
    """Return, by rule id, the predicate that is true for rows that break a critical row rule.

    A null breaks `not_null` alone, as in GX.
    """
    found = {}
    for item in suite_expectations(table):
        compiled = _PREDICATES.get(item["type"])
        if compiled and item["severity"] == "critical":
            column = identifier(item["kwargs"].get("column", ""))
            predicate = compiled(column, item["kwargs"])
            found[item["meta"]["rule_id"]] = f"coalesce({predicate}, false)"
    return found


def tagged(table: str, rows: str) -> str:
    """Return the rows with one more column: the ids of the rules that each breaks."""
    tags = ", ".join(
        f"case when {predicate} then {quote(rule_id)} end"
        for rule_id, predicate in row_predicates(table).items()
    )
    broken = f"list_filter([{tags}], lambda rule: rule is not null)" if tags else "[]::varchar[]"
    return f"select *, {broken} as {BROKEN} from ({rows})"


def good_rows(table: str, rows: str) -> str:
    """Return the rows that break no critical row rule."""
    return f"select * exclude ({BROKEN}) from ({tagged(table, rows)}) where len({BROKEN}) = 0"


def bad_rows(table: str, rows: str) -> str:
    """Return the others as refused records: reason, coordinates, payload, `_window_hour`."""
    contract = CONTRACTS[table]
    key = [*contract.key, *(name for name in contract.schema.names if name == "_row_hash")]
    partition = PARTITION if contract.partition_by else f"'' as {PARTITION}"
    return (
        f"select array_to_string({BROKEN}, ',') as reason, {_json(key)} as coordinates, "
        f"encode({_json(contract.schema.names)}) as payload, {partition} "
        f"from ({tagged(table, rows)}) where len({BROKEN}) > 0"
    )


def _json(names: Sequence[str]) -> str:
    """Return an SQL expression: these columns as one JSON text."""
    fields = ", ".join(f"{identifier(name)} := {identifier(name)}" for name in names)
    return f"cast(to_json(struct_pack({fields})) as varchar)"
