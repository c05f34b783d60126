"""One model's build on a Spark server, before and after dbt.

dbt's own session is prepared before it starts: each parent is a view over the files of its pinned
version, and what the macros ask (`macros/spark/session.sql`) stands in a view of answers. dbt runs
the model there, which writes the attempt's files, and its data tests. After it the files are
described and staged for the gate, exactly as DuckDB's are.

A windowed model sees of a parent only the partitions that its plan names, which `touched` and
`arrived` leave it anyway: so an hour's cost does not grow with the history.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.session import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from include.chimera.errors import ChimeraError, ConfigurationError
from include.chimera.fault_points import fault_point
from include.chimera.lake.dbt_plugin.materializations import WHOLE, WINDOW, Order
from include.chimera.lake.delta.constraints import Constraints, check_rows
from include.chimera.lake.delta.lineage import Plan, is_partial, plan
from include.chimera.lake.delta.parquet_files import describe_files
from include.chimera.lake.delta.partitions import Whole, partition_columns
from include.chimera.lake.delta.scans import read_files
from include.chimera.lake.delta.tables import begin_table, open_table
from include.chimera.lake.publish.model_builds import partitions_of, require_free
from include.chimera.lake.spark.failures import SESSION_VIEWS, spark_errors
from include.chimera.lake.spark.parent_views import show_table, view_of
from include.chimera.lake.staged.manifests import save
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.places import folder_of
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager

    from deltalake import DeltaTable

    from include.chimera.lake.delta.partitions import Partitions
    from include.chimera.relation import Relation
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_CONFIG = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # a value that does not fit fails, as in DuckDB
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # Delta's; Spark's own is INT96
    "spark.sql.parquet.compression.codec": "zstd",
}
# Two tries within a second: the task's own retry waits for a server to come back.
_RETRIES = DefaultPolicy(max_retries=2)


@dataclass(frozen=True)
class Model:
    """What a build needs to know of a dbt model.

    Args:
        table: Its table.
        parents: The tables that it reads, itself left out.
        window: The partition column whose touched values it replaces; "": it replaces the table.
        is_full_refresh: Whether it is built whole even if it has a window.
    """

    table: Relation
    parents: tuple[Relation, ...]
    window: str
    is_full_refresh: bool = False


class SparkBuild:
    """A model's build, from the session's preparation to the staged files.

    Args:
        model: The model.
        run: The DAG run, in which the files wait for their gate.
        remote: Address of the server, `sc://<host>:<port>/;<parameters>`.

    Raises:
        BuildOutageError: The server does not answer.
        ChimeraError: The lake can't be read.
    """

    def __init__(self, model: Model, run: Run, remote: str) -> None:
        self._model, self._run = model, run
        self._attempt = f"spark-{uuid4().hex}"
        self._staging = f"lake_{self._attempt.replace('-', '_')}"
        with self._told():
            self._spark = _session(remote)
            self._plan = self._prepare()

    def _prepare(self) -> Plan:
        model = self._model
        read = {name: open_table(name) for name in model.parents}
        own = open_table(model.table)
        planned = plan(own, read, self._run)
        is_window = bool(
            model.window and own is not None and not is_partial(own) and not model.is_full_refresh
        )
        for name, table in read.items():
            show_table(self._spark, name, table, self._wanted(planned, name) if is_window else None)
        answers: dict[str, Collection[str] | None] = {
            "staging_table": [self._staging],
            "staging_place": [f"{folder_of(model.table)}/{self._attempt}"],
        }
        if is_window:
            show_table(self._spark, model.table, own, self._wanted(planned, model.table))
            answers |= {"is_incremental": [], "lake_touched": planned.touched}
            answers |= {
                f"lake_arrived {view_of(name)}": hours for name, hours in planned.arrived.items()
            }
        self._answer(answers)
        if own is None:
            begin_table(model.table)
        return planned

    def _wanted(self, planned: Plan, parent: Relation) -> Callable[[str], bool] | None:
        """Return which partitions the plan names, None if it is all of a parent's."""
        arrived = planned.arrived.get(parent, frozenset())
        if planned.touched is None or arrived is None:
            return None
        hours = planned.touched | arrived
        unit = len(partitions_of(frozenset({"YYYYMMDDTHH"}), [self._model.window]).values[0])

        def is_wanted(value: str) -> bool:
            size = min(unit, len(value))
            return value[:size] in {hour[:size] for hour in hours}

        return is_wanted

    def _answer(self, answers: Mapping[str, Collection[str] | None]) -> None:
        """Put down the answers: no row for none, one without a value before each list's own."""
        rows = [
            (question, value)
            for question, values in answers.items()
            if values is not None
            for value in (None, *sorted(values))
        ]
        schema = "question string, value string"
        self._spark.createDataFrame(rows, schema).createOrReplaceTempView(SESSION_VIEWS)
        self._spark.createDataFrame([], "document string").createOrReplaceTempView("lake_order")

    def stage(self) -> None:
        """Stage what dbt left, or nothing if it failed before; end the session.

        Raises:
            ContractError: Rows break a constraint, or have a partition that readers would misread.
            ChimeraError: The server or the lake failed.
        """
        try:
            with self._told():
                found = self._spark.table("lake_order").collect()
                if found:
                    self._stage(Order.parse(self._model.table, json.loads(found[0][0])))
                self._spark.sql(f"drop table if exists {self._staging}")
        finally:
            self._end()

    def _stage(self, order: Order) -> None:
        name, where = self._model.table, f"model {self._model.table}"
        _require_whole_parents(order)
        columns = to_arrow_schema(self._spark.table(view_of(name)).schema)
        partition_by = partition_columns(columns, order.partition_by, where)
        replaced: Whole | Partitions = Whole()
        if order.strategy == WHOLE:
            require_free(str(name), self._live(), may_replace=order.may_replace)
        if order.strategy == WINDOW and self._plan.touched is not None:
            replaced = partitions_of(self._plan.touched, partition_by)
        folder = folder_of(name)
        files = describe_files(folder, self._attempt, columns)
        build = order.build(self._plan, files, columns, partition_by, replaced)
        written = read_files(folder, [file.path for file in files], columns)
        try:
            constraints = Constraints(frozenset(order.required), order.checks)
            with connect(has_delta=False) as connection:
                check_rows(connection, where, files, written, constraints)
            fault_point("build.rows_written")
            save(self._run, build)
        except ChimeraError:
            storage.delete_files(f"{folder}/{file.path}" for file in files)
            raise

    def _live(self) -> DeltaTable | None:
        return open_table(self._model.table, has_files=False)

    def _end(self) -> None:
        try:
            self._spark.stop()
        except Exception as error:  # noqa: BLE001 - the server may be gone, and forgets it by itself
            logger.warning("the Spark session could not be ended: %s", type(error).__name__)

    def _told(self) -> AbstractContextManager[None]:
        return spark_errors(f"model {self._model.table}")


def try_server(remote: str) -> str:
    """Let a server write a file into the lake and look for it here; return the server's version.

    Raises:
        BuildOutageError: The server does not answer, or can't write there.
        ConfigurationError: Its file is not in this lake.
    """
    folder = f"{get_settings().lake}/_runs/spark-{uuid4().hex}"
    with spark_errors("the Spark server"):
        spark = _session(remote)
        try:
            spark.range(1).write.parquet(folder)
            version = spark.version
        finally:
            spark.stop()
    found = storage.walk(folder)
    storage.delete_folder(folder)
    if not found:
        raise ConfigurationError(
            expected="a Spark server that sees the lake under the same address",
            came="a file that it wrote there and that is not there",
            where=get_settings().lake,
            remedy="mount the folder on the server too, or put the lake in an object store",
        )
    return version


def _session(remote: str) -> SparkSession:
    """Make the session that dbt-spark then finds: one a process, its own on the server."""
    # dbt-spark asks for Hive's catalogue with each statement, which no model needs.
    warnings.filterwarnings("ignore", message="Failed to set spark.sql.catalogImplementation")
    spark = SparkSession.builder.remote(remote).create()
    spark.client.set_retry_policies([_RETRIES])
    for name, value in _CONFIG.items():
        spark.conf.set(name, value)
    return spark


def _require_whole_parents(order: Order) -> None:
    """Refuse what dbt's options make of parents: on Spark they are as the lake has them.

    Raises:
        ConfigurationError: There is such an option.
    """
    if order.partial or order.is_deferred:
        raise ConfigurationError(
            expected="a build of the parents as they are, on Spark",
            came=f"--{order.partial or 'defer'}",
            where=f"model {order.table}",
            remedy="leave the option out, or build on DuckDB",
        )
