"""The lake as one dbt process sees it, and the operations that dbt runs on it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from include.chimera.errors import (
    ChimeraError,
    ConfigurationError,
    LogDamagedError,
    PathUndecodableError,
)
from include.chimera.fault_points import fault_point
from include.chimera.lake.dbt_plugin.catalog import Catalog
from include.chimera.lake.dbt_plugin.materializations import WHOLE, WINDOW, Order
from include.chimera.lake.dbt_plugin.row_changes import Changer
from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.dbt_plugin.views import View, drop_view, save_view
from include.chimera.lake.delta.columns import arrow_schema, describe, respell, select
from include.chimera.lake.delta.constraints import Constraints, check_rows
from include.chimera.lake.delta.lineage import Plan, identity_of, is_partial, plan, plan_anew
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Partitions, Whole, partition_columns
from include.chimera.lake.delta.scans import read_files
from include.chimera.lake.delta.tables import begin_table, drop_table, open_table, require_decodable
from include.chimera.lake.publish.model_builds import commit_build, partitions_of, require_free
from include.chimera.lake.staged.manifests import save
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import among, identifier
from include.chimera.lake.store.places import folder_of, forget, schema_folder
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.lake.staged.manifests import Build
    from include.chimera.relation import Relation
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
PARTIAL = "lake_partial"  # schema of this process's database


class Session:
    """The lake as one process sees it: each table pinned to the version found or committed here.

    Threads share a session; a table is built by one thread at a time, except for batches.

    Args:
        run: The DAG run, in which builds are staged for their gate; None: standalone.
    """

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.built: dict[Relation, Whole | Partitions] = {}
        self.changing = threading.Lock()
        self._plans: dict[tuple[tuple[Relation, str, int], ...], Plan] = {}

    def attach(self, connection: DuckDBPyConnection) -> None:
        """Use this database for the lake's relations, which appear as statements name them."""
        self.catalog = Catalog(connection)
        # Create it now: if two threads did so later in separate transactions, one would fail.
        connection.execute(f"create schema if not exists {PARTIAL}")

    def built_partitions(self, name: Relation) -> list[str] | None:
        """Return the partitions that this process built; None: not built here, or whole."""
        built = self.built.get(name)
        return list(built.values) if isinstance(built, Partitions) else None

    def plan(self, model: Relation, parents: Sequence[Relation]) -> Plan:
        """Plan what a model must recompute."""
        read = {name: self.catalog.table(name) for name in parents}
        own = self.catalog.table(model)
        # The macros and `write` ask for the same plan; each time, history would be read anew.
        versions = tuple(
            (name, identity_of(name, table), table.version()) if table else (name, "", -1)
            for name, table in ((model, own), *read.items())
        )
        if versions not in self._plans:
            self._plans[versions] = (
                plan_anew(read, self.run.window)
                if self.run and get_settings().published
                else plan(own, read, self.run)
            )
        return self._plans[versions]

    def write(self, connection: DuckDBPyConnection, order: Order) -> None:
        """Commit a model's rows, or stage them in a DAG run.

        Args:
            connection: Session that sees the rows (`order.source`).
            order: The materialization's request.
        """
        if order.is_full_refresh:
            self._drop_unreadable(order.table)
        planned = self.plan(order.table, order.parents)
        if order.is_deferred:
            planned = Plan(planned.base_version, {}, None)
        if order.partial:
            self.stand_alone(f"--{order.partial}", order.table)
            if self.is_whole(order.table):
                self.show_only(connection, order)
                return
        if isinstance(order.strategy, Rewrite):
            name = order.table
            self.stand_alone(f"incremental_strategy {order.strategy.strategy}", name)
            changer = Changer(
                connection, order, order.strategy, planned, lambda table: self.show(name, table)
            )
            self.show(name, changer.commit())
            self.built[name] = Whole()
        else:
            self.built[order.table] = self.replace(connection, order, planned)

    def is_partial(self, name: Relation) -> bool:
        """Was a table last built with `--empty` or `--sample`?"""
        return is_partial(self.catalog.table(name))

    def is_whole(self, name: Relation) -> bool:
        """Does the lake have this relation, built from all rows?"""
        return self.catalog.kind(name) is not None and not self.is_partial(name)

    def show_only(self, connection: DuckDBPyConnection, order: Order) -> None:
        """Show rows of empty or sampled parents to this process only; the lake stays as it is."""
        rows = f"from {order.source}"
        shown = f"{PARTIAL}.{identifier(str(order.table))}"
        rows = select(describe(connection, rows), rows)
        connection.execute(f"create or replace table {shown} as {rows}")
        self.catalog.define(order.table, f"from {shown}")
        self.built[order.table] = Whole()
        logger.warning(
            "--%s: %s was built and checked, and stays as it is in the lake",
            order.partial,
            order.table,
        )

    def _drop_unreadable(self, name: Relation) -> None:
        """Drop a table whose log can't be read: no reader loses anything.

        A commit could not replace its rows, because delta-rs removes no file whose path it can't
        decode.
        """
        try:
            table = open_table(name)
            if table is not None:
                require_decodable(name, table)
        except (LogDamagedError, PathUndecodableError) as error:
            self.stand_alone("a table that can't be read", name)
            logger.warning("dropping %s, to build it anew: %s", name, error)
            self.catalog.forget(name)
            drop_table(name)

    def replace(
        self, connection: DuckDBPyConnection, order: Order, planned: Plan
    ) -> Whole | Partitions:
        """Replace the rows of a table or of some of its partitions; return which."""
        rows = f"from {order.source}"
        incoming = describe(connection, rows)
        rows = select(incoming, rows)
        replaced: Whole | Partitions = Whole()
        live = self.catalog.table(order.table) if order.strategy == WINDOW else None
        if live is not None:
            rows = respell(incoming, [field.name for field in live.schema().fields], rows)
        columns = arrow_schema(connection, rows)
        partition_by = partition_columns(columns, order.partition_by, f"model {order.table}")
        if order.strategy == WHOLE:
            live = open_table(order.table, has_files=False)
            require_free(str(order.table), live, may_replace=order.may_replace)
        if order.strategy == WINDOW and planned.touched is not None:
            replaced = partitions_of(planned.touched, partition_by)
            rows = f"{rows} where {among(replaced.column, replaced.values)}"
        if live is None or get_settings().published:
            begin_table(order.table)
        files = write_files(connection, rows, folder_of(order.table), columns, partition_by)
        build = order.build(planned, files, columns, partition_by, replaced)
        paths = [file.path for file in files]
        written = read_files(folder_of(order.table), paths, columns)
        try:
            constraints = Constraints(frozenset(order.required), order.checks)
            check_rows(connection, f"model {order.table}", files, written, constraints)
            self._keep(order.table, build, written)
        except ChimeraError:
            # Our errors mean that nothing was committed. After any other error or a signal a commit
            # may exist, so leave the files: maintenance removes those that no log names.
            storage.delete_files(f"{folder_of(order.table)}/{path}" for path in paths)
            raise
        return replaced

    def _keep(self, name: Relation, build: Build, written: str) -> None:
        """Commit or stage, and show this process the model as it will be."""
        if self.run is None:
            self.show(name, commit_build(build, None))
            return
        fault_point("build.rows_written")
        save(self.run, build)
        live = self.catalog.table(name)
        if live is not None and isinstance(build.replaced, Partitions):
            replaced = among(build.replaced.column, build.replaced.values)
            written = f"{self.catalog.live(name)} where not {replaced} union all by name {written}"
        self.catalog.define(name, written)

    def is_table(self, name: Relation) -> bool:
        """Is a relation a table of the lake?"""
        return self.catalog.kind(name) == "table" and self.catalog.table(name) is not None

    def show(self, name: Relation, table: DeltaTable) -> None:
        """Show a version of a table to this process."""
        if self.catalog.put_table(name, table):
            drop_view(name)

    def save_view(self, name: Relation, view: View, partial: str = "") -> None:
        """Make a relation a view, for this and all later processes.

        If its SQL reads empty or sampled parents (`partial`), only this process sees it.
        """
        self.stand_alone("materialization view", name)
        was_table = self.catalog.put_view(name, view)
        if partial:
            logger.warning("--%s: view %s stays as it is in the lake", partial, name)
            return
        save_view(name, view)
        if was_table:
            drop_table(name)

    def drop(self, name: Relation) -> None:
        """Drop a relation of the lake, with its files."""
        self.stand_alone("dropping a relation", name)
        kind = self.catalog.kind(name)
        self.catalog.forget(name)
        if kind is not None:
            # Table first: a crash in between must not make a table hidden by its view reappear.
            drop_table(name)
            drop_view(name)

    def rename(self, name: Relation, target: Relation) -> None:
        """Rename a relation of the lake, dropping any relation with the new name."""
        self.stand_alone("renaming a relation", name)
        if name == target:  # a respelling of the same name: dropping the target would lose it
            return
        view = self.catalog.view(name)
        self.drop(target)
        if view is None:
            storage.move_folder(folder_of(name), folder_of(target))
            forget()
        self.drop(name)
        if view is not None:
            self.save_view(target, view)
            return
        table = open_table(target)
        if table is not None:
            self.show(target, table)

    def drop_schema(self, schema: str) -> None:
        """Drop a schema's relations, with their files."""
        for name in self.catalog.names(schema):
            self.drop(name)
        storage.delete_folder(schema_folder(schema))
        forget()

    def stand_alone(self, what: str, name: Relation) -> None:
        """Refuse, in a DAG run, an operation that can't be staged for a gate."""
        if self.run is not None:
            raise ConfigurationError(
                expected="materialized='table', or incremental with strategy replace_window",
                came=what,
                where=f"{name}, in DAG run {self.run.run_id}",
                remedy="use one of these in the pipeline: its results wait for their gate",
            )
