"""Expectations that GX lacks: SQL predicates over rows, and statistics that may be unknown.

Importing `duckdb_source` registers them and the datasource type. A predicate may use the relations
of the gate's database: `run` (window_start, window_end, rows_unparsed), `usual` (rule_id, upper),
`closed` (key_count, changed_count) and `keys_<layer>_<table>_<key>`, one row per known key of
another table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, ColumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    column_condition_partial,
)
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.expectations.model_field_types import (
    MostlyField,  # noqa: TC002 - pydantic resolves it at run time
)

from include.chimera.lake.staged.verdicts import tolerated
from include.chimera.quality.rules.kinds import sql_name

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import ColumnElement


class SatisfyPredicate(ColumnMapMetricProvider):
    """Rows for which an SQL predicate is false; null does not count as false."""

    condition_metric_name = "column_values.satisfy_predicate"
    condition_value_keys = ("predicate",)

    @column_condition_partial(engine=SqlAlchemyExecutionEngine)
    def _sqlalchemy(
        cls,  # noqa: N805 - GX makes it a class method
        column: ColumnElement[object],
        predicate: str,
        **_: object,
    ) -> ColumnElement[bool]:
        del column  # the predicate names its columns itself
        return sa.literal_column(f"({predicate})", sa.Boolean())


class ExpectColumnValuesToSatisfyPredicate(ColumnMapExpectation):
    """Expect an SQL predicate to hold in each row in which the column is not null."""

    predicate: str
    map_metric: ClassVar[str | None] = "column_values.satisfy_predicate"
    success_keys: ClassVar[tuple[str, ...]] = ("predicate", "mostly")
    args_keys = ("column", "predicate")
    mostly: MostlyField = 1


_UNPARSED = "(select max(rows_unparsed) from run)"
_Domain: TypeAlias = "dict[str, object]"  # identifies the batch; returned to GX unchanged


class SqlAggregate(TableMetricProvider):
    """One aggregate over the batch; GX bundles all aggregates of a suite in one query.

    A subclass defines the SQL, with the expectation's arguments (`value_keys`) in braces.
    """

    sql: ClassVar[str]

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,  # noqa: N805 - GX makes it a class method
        metric_domain_kwargs: _Domain,
        metric_value_kwargs: dict[str, str],
        **_: object,
    ) -> tuple[ColumnElement[float], _Domain, _Domain]:
        values = dict(metric_value_kwargs)
        if "column" in values:
            values["column"] = sql_name(values["column"])
        return sa.literal_column(cls.sql.format(**values)), metric_domain_kwargs, {}


class StagedRows(SqlAggregate):
    """How many rows were staged, including those that could not be parsed."""

    metric_name = "table.staged_rows"
    sql = f"count(*) + {_UNPARSED}"


class RefusedRows(SqlAggregate):
    """How many staged rows are bad: not parsed, or a predicate is true for them."""

    metric_name = "table.refused_rows"
    value_keys = ("broken",)
    sql = f"count(*) filter (where {{broken}}) + {_UNPARSED}"


class UnusualRows(SqlAggregate):
    """How many rows exceed the rule's limit in `usual`."""

    metric_name = "table.unusual_rows"
    value_keys = ("predicate",)
    sql = "count(*) filter (where not ({predicate}))"


class GoodRowsStatistic(SqlAggregate):
    """A statistic of a column's finite values in the rows that no critical row rule refuses.

    One NaN would make the mean NaN and the standard deviation raise; refused rows go to the dead
    letters anyway.
    """

    metric_name = "table.good_rows_statistic"
    value_keys = ("function", "column", "broken")
    sql = "{function}({column}) filter (where isfinite({column}) and ({broken}) is not true)"


class ClosedKeys(SqlAggregate):
    """How many keys the hours before the run's window hold that staged rows replace."""

    metric_name = "table.closed_keys"
    sql = "(select max(key_count) from closed)"


class ChangedKeys(SqlAggregate):
    """How many of them the staged rows change, or lack."""

    metric_name = "table.changed_keys"
    sql = "(select max(changed_count) from closed)"


def _counts(rows: int, unexpected: int) -> dict[str, float]:
    return {
        "element_count": rows,
        "unexpected_count": unexpected,
        "unexpected_percent": 100 * unexpected / max(rows, 1),
    }


class ExpectRowPassRatioToBeAtLeast(BatchExpectation):
    """Expect a share of the staged rows to be parsed and an SQL predicate to be false for them."""

    broken: str
    min_value: float
    metric_dependencies = ("table.staged_rows", "table.refused_rows")
    success_keys: ClassVar[tuple[str, ...]] = ("broken", "min_value")
    args_keys = ("broken", "min_value")

    def _validate(self, metrics: dict[str, int], *_: object, **__: object) -> dict[str, object]:
        rows, refused = metrics["table.staged_rows"], metrics["table.refused_rows"]
        return {
            "success": refused <= tolerated(rows, self.min_value),
            "result": _counts(rows, refused),
        }


class ExpectClosedKeysToBeKept(BatchExpectation):
    """Expect at most a share of the keys of hours before the run's window to change."""

    max_value: float
    metric_dependencies = ("table.closed_keys", "table.changed_keys")
    success_keys: ClassVar[tuple[str, ...]] = ("max_value",)
    args_keys = ("max_value",)

    def _validate(self, metrics: dict[str, int], *_: object, **__: object) -> dict[str, object]:
        keys, changed = metrics["table.closed_keys"], metrics["table.changed_keys"]
        is_kept = changed <= tolerated(keys, 1 - self.max_value)
        # Late rows change some keys in many hours; that is none of what a person should look at.
        counts = {} if is_kept else _counts(keys, changed)
        share = changed / keys if keys else None
        return {"success": is_kept, "result": {**counts, "observed_value": share}}


class ExpectColumnValuesToBeUsual(BatchExpectation):
    """Expect no value beyond its limit; record the largest, as history for later hours."""

    column: str
    predicate: str
    function: str
    broken: str = "false"
    mostly: MostlyField = 1
    metric_dependencies = (*("table.row_count", "table.unusual_rows", "table.good_rows_statistic"),)
    success_keys: ClassVar[tuple[str, ...]] = (
        *("column", "predicate", "function", "broken", "mostly"),
    )
    args_keys = ("column", "predicate")

    def _validate(self, metrics: dict[str, Any], *_: object, **__: object) -> dict[str, object]:
        rows, unusual = metrics["table.row_count"], metrics["table.unusual_rows"]
        greatest = metrics["table.good_rows_statistic"]
        return {
            "success": unusual <= tolerated(rows, float(str(self.mostly))),
            "result": {
                **_counts(rows, unusual),
                "observed_value": None if greatest is None else float(greatest),
            },
        }


class ExpectGoodRowsStatisticToBeBetween(BatchExpectation):
    """Expect a statistic of a column's good rows to be between two bounds, if it is known."""

    function: str
    column: str
    broken: str = "false"
    min_value: float | None = None
    max_value: float | None = None
    metric_dependencies = ("table.good_rows_statistic",)
    success_keys: ClassVar[tuple[str, ...]] = (
        *("function", "column", "broken", "min_value", "max_value"),
    )
    args_keys = ("function", "column", "min_value", "max_value")

    def _validate(
        self, metrics: dict[str, float | None], *_: object, **__: object
    ) -> dict[str, object]:
        found = metrics["table.good_rows_statistic"]
        low, high = self.min_value, self.max_value
        is_inside = found is None or (
            (low is None or found >= low) and (high is None or found <= high)
        )
        value = None if found is None else float(found)
        return {"success": is_inside, "result": {"observed_value": value}}
