"""Show a version of a Delta table to a Spark session, as a view over its list of files.

The log is read by delta-rs alone: Spark sees Parquet files, each group with its partition's value.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions
from pyspark.sql.types import StructField, StructType

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import ConfigurationError
from include.chimera.lake.delta.columns import delta_schema
from include.chimera.lake.delta.tables import missing_columns
from include.chimera.lake.store.places import folder_of
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltalake import DeltaTable, Schema
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.session import SparkSession

    from include.chimera.relation import Relation


def view_of(name: Relation) -> str:
    """Return the name of a relation's view, as the macro `in_session` does."""
    return f"{name.schema}__{name.identifier}"


def show_table(
    spark: SparkSession,
    name: Relation,
    table: DeltaTable | None,
    is_wanted: Callable[[str], bool] | None = None,
) -> None:
    """Make a view of a table's rows at the loaded version.

    Args:
        spark: The session.
        name: The table's name.
        table: The table, None if it does not exist yet: a bronze table is then empty.
        is_wanted: Whether a partition's rows are shown, by its value; None: all are.

    Raises:
        ConfigurationError: There is no such table, nor is it one of bronze.
    """
    schema = _schema(name, table)
    groups = {} if table is None else _files_by_partition(table, name)
    rows = [
        _rows(spark, schema, dict(partition), places)
        for partition, places in groups.items()
        if is_wanted is None or all(is_wanted(value) for _, value in partition if value)
    ]
    shown = _union(rows) if rows else spark.createDataFrame([], schema)
    shown.createOrReplaceTempView(view_of(name))


def _schema(name: Relation, table: DeltaTable | None) -> StructType:
    """Return the table's columns; Delta writes them down in Spark's own words."""
    contract = CONTRACTS.get(name.key)
    if table is None and contract is None:
        raise ConfigurationError(
            expected=f"a table {name}, which the model reads",
            came="none of this name",
            where=f"the lake {get_settings().lake}",
            remedy="build it first: clear its model's task and its gate",
        )
    found = [] if table is None else _columns(table.schema())
    lacking = contract.schema if contract else pa.schema([])
    if table is not None and contract is not None:
        lacking = pa.schema(missing_columns(table, contract))
    return StructType([*found, *_columns(delta_schema(lacking))])


def _columns(schema: Schema) -> list[StructField]:
    """Return columns without their comments, which Sail takes for a part of their types."""
    columns = StructType.fromJson(json.loads(schema.to_json()))
    return [StructField(column.name, column.dataType) for column in columns.fields]


def _files_by_partition(
    table: DeltaTable, name: Relation
) -> dict[tuple[tuple[str, str | None], ...], list[str]]:
    by = table.metadata().partition_columns
    groups: dict[tuple[tuple[str, str | None], ...], list[str]] = defaultdict(list)
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        partition = tuple((column, _text(action[f"partition.{column}"])) for column in by)
        groups[partition].append(f"{folder_of(name)}/{action['path']}")
    return groups


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _rows(
    spark: SparkSession, schema: StructType, partition: dict[str, str | None], places: list[str]
) -> DataFrame:
    stored = StructType([field for field in schema.fields if field.name not in partition])
    rows = spark.read.schema(stored).parquet(*places)
    values = {
        name: functions.lit(value).cast(schema[name].dataType) for name, value in partition.items()
    }
    return rows.withColumns(values).select(*schema.names) if values else rows


def _union(rows: Sequence[DataFrame]) -> DataFrame:
    """Union them as a balanced tree: a chain of a thousand is too deep for a server."""
    if len(rows) == 1:
        return rows[0]
    middle = len(rows) // 2
    return _union(rows[:middle]).unionAll(_union(rows[middle:]))
