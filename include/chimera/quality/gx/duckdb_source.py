"""Great Expectations on DuckDB: a buffered SQLAlchemy dialect and a datasource type `duckdb`.

GX reads results after it has rolled back the connection, when duckdb-engine has nothing left to
read. So the dialect `duckdb+gx` keeps each result in memory (aggregates: a few rows). The engine
borrows SQLAlchemy's type names. Its regex rules search anywhere in a value, as on every other
backend (DuckDB's `~` matches the whole value).
"""

from __future__ import annotations

import builtins  # noqa: TC003 - pydantic resolves it at run time
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import duckdb_engine
import sqlalchemy as sa
from duckdb_engine import datatypes
from great_expectations.datasource.fluent.config_str import (
    ConfigStr,  # noqa: TC002 - pydantic resolves it at run time
)
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    column_condition_partial,
)
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from sqlalchemy.dialects import registry
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.quality.gx import expectations  # noqa: F401 - registers them with GX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from great_expectations.validator.computed_metric import MetricValue
    from great_expectations.validator.metric_configuration import (
        MetricConfiguration,
        MetricConfigurationID,
    )
    from sqlalchemy.sql.elements import ColumnElement
    from sqlalchemy.types import TypeEngine

# Metrics that fetch rows or their values, with one query each.
_VALUES = (".unexpected_values", "unexpected_rows_query.table")
_Context: Any = duckdb_engine.Dialect.execution_ctx_cls


class BufferedContext(_Context):  # type: ignore[misc]  # duckdb-engine ships no types
    """Fetches each result completely before GX rolls back."""

    def post_exec(self) -> None:
        """Buffer all rows of the cursor."""
        super().post_exec()
        if self.cursor is not None and self.cursor.description:
            self.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                self.cursor,
                alternate_description=self.cursor.description,
                initial_buffer=deque(self.cursor.fetchall()),
            )


class BufferedDialect(duckdb_engine.Dialect):
    """`duckdb+gx://`: duckdb-engine's dialect with the lake's sessions and buffered results."""

    driver = "gx"
    supports_statement_cache = True
    execution_ctx_cls = BufferedContext
    # No rule needs the nested types' names, but each column of an unknown type causes a warning.
    ischema_names: dict[str, type[TypeEngine[Any]]] = {  # noqa: RUF012 - as in the base class
        **duckdb_engine.Dialect.ischema_names,
        **dict.fromkeys(("list", "struct", "map", "array", "union"), sa.types.NullType),
    }

    def connect(self, database: str, **_: object) -> Any:  # noqa: ANN401 - duckdb-engine's own
        """Open a session that only reads the database, as the lake's sessions do."""
        session = connect(database, has_delta=False, is_read_only=True)
        return duckdb_engine.ConnectionWrapper(session)


registry.register("duckdb.gx", __name__, "BufferedDialect")


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """GX's SQL engine with DuckDB's type names."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - GX's own signature
        super().__init__(*arguments, **options)
        names = types.ModuleType("duckdb_types")
        names.dialect = duckdb_engine.Dialect  # type: ignore[attr-defined]  # what GX looks for
        for module in (sa.types, datatypes):
            for name in dir(module):
                if name[:1].isupper():
                    setattr(names, name, getattr(module, name))
        self.dialect_module = names

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict[MetricConfigurationID, MetricValue] | None = None,
        runtime_configuration: dict[str, object] | None = None,
    ) -> dict[MetricConfigurationID, MetricValue]:
        """Compute metrics, but skip those that fetch values of rows, to save queries and copies."""
        values: list[MetricConfiguration] = []
        counts: list[MetricConfiguration] = []
        for metric in metrics_to_resolve:
            is_values = metric.metric_name.endswith(_VALUES)
            (values if is_values else counts).append(metric)
        found = super().resolve_metrics(counts, metrics, runtime_configuration) if counts else {}
        return {**found, **{metric.id: [] for metric in values}}


class DuckDBDatasource(SQLDatasource):
    """The datasource type `duckdb` of great_expectations.yml."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]  # GX narrows it the same way
    connection_string: ConfigStr | str
    create_temp_table: bool = False

    @property
    def execution_engine_type(self) -> builtins.type[SqlAlchemyExecutionEngine]:
        """The engine that runs this datasource's rules."""
        return DuckDBExecutionEngine


class MatchRegex(ColumnMapMetricProvider):
    """`expect_column_values_to_match_regex` on DuckDB."""

    condition_metric_name = "column_values.match_regex"
    condition_value_keys = ("regex",)

    @column_condition_partial(engine=DuckDBExecutionEngine)
    def _sqlalchemy(
        cls,  # noqa: N805 - GX makes it a class method
        column: ColumnElement[str],
        regex: str,
        _dialect: object,
        **_: object,
    ) -> ColumnElement[bool]:
        return sa.func.regexp_matches(column, sa.literal(regex))


class ColumnTypes(TableMetricProvider):
    """The batch's columns, without SQLAlchemy's queries of three catalogue views (0.09 s)."""

    metric_name = "table.column_types"
    value_keys = ("include_nested",)
    default_kwarg_values = {"include_nested": True}  # noqa: RUF012 - as in the base class

    @metric_value(engine=DuckDBExecutionEngine)
    def _sqlalchemy(
        cls,  # noqa: N805 - GX makes it a class method
        execution_engine: DuckDBExecutionEngine,
        metric_domain_kwargs: dict[str, str],
        **_: object,
    ) -> list[dict[str, str]]:
        batches: Any = execution_engine.batch_manager.batch_data_cache
        batch = batches[metric_domain_kwargs["batch_id"]]
        described = execution_engine.execute_query(sa.text(f"describe {batch.source_table_name}"))
        return [{"name": name, "type": kind} for name, kind, *_rest in described]
