"""The part of GX's suite JSON that we write and read back: one expectation per rule."""

from __future__ import annotations

from typing import Literal, TypedDict

Severity = Literal["critical", "warning", "info"]
Scalar = str | int | float | bool


class Kwargs(TypedDict, total=False):
    """The arguments of an expectation; each expectation type takes some of them."""

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
    """Facts of a rule for reports and the row split; GX passes them through."""

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
