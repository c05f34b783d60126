"""What we write of GX's suite JSON, and read back: one expectation for each rule."""

from __future__ import annotations

from typing import Literal, TypedDict

Severity = Literal["critical", "warning", "info"]
Scalar = str | int | float | bool


class Kwargs(TypedDict, total=False):
    """The arguments of an expectation: each type takes some of them."""

    column: str
    column_A: str
    column_B: str
    or_equal: bool
    ignore_row_if: str
    column_list: list[str]
    column_set: list[str]
    exact_match: bool
    value_set: list[Scalar]
    regex: str
    predicate: str
    function: str
    broken: str
    unexpected_rows_query: str
    min_value: float
    max_value: float
    mostly: float


class Meta(TypedDict):
    """What reports and the split of rows want to know of a rule; GX hands it through."""

    rule_id: str
    check: str
    columns: list[str]
    owner: str
    remedy: str
    is_public: bool


class Expectation(TypedDict):
    """One rule as GX reads it."""

    type: str
    id: str
    kwargs: Kwargs
    meta: Meta
    notes: str
    severity: Severity
