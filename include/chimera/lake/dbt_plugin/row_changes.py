"""Incremental models: change a table's rows in one commit, recomputed after a conflict.

Only partitions with a changed row are rewritten; a table without partitions is rewritten whole as
soon as one row changes. No row passes through Python: DuckDB reads, joins and writes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.chimera.errors import ChimeraError, ContractError
from include.chimera.lake.delta.columns import (
    Column,
    arrow_schema,
    columns_of,
    delta_schema,
    describe,
    fit,
    project,
    select,
)
from include.chimera.lake.delta.commits import Change, commit, run_metadata
from include.chimera.lake.delta.constraints import (
    Constraints,
    check_conversion,
    check_rows,
    constraints_of,
)
from include.chimera.lake.delta.lineage import marks_of, metadata_of
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import (
    Append,
    Partitions,
    Replaced,
    Whole,
    among,
    partition_columns,
    text_of,
)
from include.chimera.lake.delta.scans import read_files, scan
from include.chimera.lake.delta.tables import create_table, open_table
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import identifier
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.refused_values import refusals
from include.chimera.relation import folded, spelling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltalake import DeltaTable, Schema
    from duckdb import DuckDBPyConnection

    from include.chimera.lake.dbt_plugin.materializations import Order
    from include.chimera.lake.dbt_plugin.strategies import Rewrite
    from include.chimera.lake.delta.lineage import Plan
    from include.chimera.lake.delta.parquet_files import DataFile

logger = logging.getLogger(__name__)

_ROWS = "lake_incoming_rows"


@dataclass
class Changer:
    """Commits the rows of one incremental model.

    Args:
        connection: DuckDB session that sees the model's rows.
        order: The materialization's request.
        rewrite: How the rows change the table.
        plan: The build's plan, with the parent versions that were read.
        show: Shows a version of the table in this session; called before recomputing rows that
            depend on the table.
    """

    connection: DuckDBPyConnection
    order: Order
    rewrite: Rewrite
    plan: Plan
    show: Callable[[DeltaTable], None]
    _incoming: list[Column] = field(default_factory=list)
    _written: list[DataFile] = field(default_factory=list)
    _rewrite: Rewrite = field(init=False)
    _seen: int | None = field(init=False)

    def __post_init__(self) -> None:
        """Start from the version that this session shows."""
        self._seen = self.plan.base_version

    def commit(self) -> DeltaTable:
        """Compute the model's rows once, then commit what they change.

        Raises:
            ContractError: The table does not allow these columns or rows.
            CommitConflictError: Every attempt lost to another writer.
        """
        self._compute()
        try:
            table, _ = commit(str(self.order.table), self._load, self._decide)
        except ChimeraError:
            self._discard()  # after any other error the files may be part of the table
            raise
        finally:
            self.connection.execute(f"drop table if exists {_ROWS}")
        return table

    def _compute(self) -> None:
        query = f"from {self.order.source}"
        self._incoming = describe(self.connection, query)
        rows = select(self._incoming, query)
        with refusals(column.name for column in self._incoming):
            self.connection.execute(f"create or replace temp table {_ROWS} as {rows}")

    def _load(self) -> DeltaTable:
        order = self.order
        found = open_table(order.table)
        if found is not None:
            self._tell_other_partitions(found)
            self._catch_up(found)
            return found
        columns = arrow_schema(self.connection, f"from {_ROWS}")
        schema = delta_schema(columns, order.required, order.comments)
        partition_by = partition_columns(columns, order.partition_by, self._where)
        return create_table(order.table, schema, partition_by, order.properties)

    def _tell_other_partitions(self, table: DeltaTable) -> None:
        """Warn if the model's partition columns differ from its table's."""
        has, asked = (
            [folded(name) for name in names]
            for names in (table.metadata().partition_columns, self.order.partition_by)
        )
        if has != asked:
            logger.warning(
                "%s stays partitioned by %s, the model says %s: dbt build --full-refresh "
                "--select <model> rebuilds it",
                self.order.table,
                ", ".join(has) or "nothing",
                ", ".join(asked) or "nothing",
            )

    def _catch_up(self, table: DeltaTable) -> None:
        """Recompute rows that depend on the table, if another writer has changed it."""
        if self.order.reads_itself and table.version() != self._seen:
            self.show(table)
            self._seen = table.version()
            self._compute()

    def _decide(self, table: DeltaTable) -> Change | None:
        self._discard()
        live = scan(table, self.order.table)
        stored = [
            Column(column.name, column.kind, column.kind)
            for column in self._incoming
            if folded(column.name) not in self.rewrite.helpers
        ]
        theirs = columns_of(self.connection, table.schema())
        fitted = fit(stored, theirs, self.order.on_schema_change, self._where)
        names = [column.name for column in fitted.columns]
        self._require_partitions(table, names)
        given = [column.name for column in stored]
        self._rewrite = self.rewrite.on(names, given, self._where)
        self._require_moments(theirs)
        check_conversion(self.connection, f"from {_ROWS}", fitted.narrowed, self._where)
        check_conversion(self.connection, live, fitted.retyped, self._where)
        rows = project(fitted.columns, stored, f"from {_ROWS}", self.rewrite.helpers)
        replaced = Whole() if fitted.is_rewritten else self._affected(table, live, rows)
        is_append, kept = isinstance(replaced, Append), None
        all_go = self._rewrite.replaces(table.metadata().partition_columns)
        if not is_append and (fitted.is_rewritten or not all_go):
            kept = project(fitted.columns, theirs, self._part(live, replaced))
        content = self._rewrite.content(kept, f"({rows})", names)
        schema = self._write(table, content, is_changed=fitted.is_changed)
        if not self._written and is_append and schema is None:
            return None
        is_partial_build = bool(self.order.partial)
        marks = marks_of(self.plan, table, is_partial_build=is_partial_build)
        return Change(self._written, replaced, marks, self._metadata, schema)

    def _require_partitions(self, table: DeltaTable, columns: Sequence[str]) -> None:
        gone = [name for name in table.metadata().partition_columns if name not in columns]
        if gone:
            raise ContractError(
                expected="a model that has its table's partition columns",
                came=f"no {', '.join(gone)}, under on_schema_change='sync_all_columns'",
                where=self._where,
                remedy="give it, or set another partition_by and rebuild the table whole: "
                "dbt build --full-refresh --select <model>",
            )

    def _require_moments(self, columns: Sequence[Column]) -> None:
        kinds = {column.name: column.kind for column in columns}
        if kinds.get(self._rewrite.event_time) == "VARCHAR":
            raise ContractError(
                expected="an event_time that is a date or a timestamp",
                came=f"{self._rewrite.event_time}, text: its order is not that of moments",
                where=self._where,
                remedy="cast it in the model, and in the parents that have an event_time",
            )

    def _affected(self, table: DeltaTable, live: str, rows: str) -> Replaced:
        """Return the table's partitions in which rows change."""
        if self._rewrite.is_append:
            return Append()
        partition_by = table.metadata().partition_columns
        if self._rewrite.replaces(partition_by):
            found = self._partitions(partition_by[0], rows)
            return found if found.values else Append()
        if partition_by and partition_by[0] in self._rewrite.keys:
            live = self._part(live, self._partitions(partition_by[0], rows))
        touched = self._rewrite.touched(live, f"({rows})")
        self._check_unique(live, rows)
        if not partition_by:
            row = self.connection.execute(f"select 1 from ({touched}) limit 1").fetchone()
            return Whole() if row else Append()
        column = partition_by[0]
        if self.connection.execute(
            f"select 1 from ({touched}) where {identifier(column)} is null limit 1"
        ).fetchone():
            return Whole()
        found = self._partitions(column, touched)
        return found if found.values else Append()

    def _partitions(self, column: str, query: str) -> Partitions:
        """Return the partitions of a query's rows, except the null partition."""
        text = text_of(column, arrow_schema(self.connection, query).field(column).type)
        query = f"select distinct {text} from ({query}) where {identifier(column)} is not null"
        with refusals([column]):
            found = self.connection.execute(query).fetchall()
        return Partitions(column, tuple(sorted(value for (value,) in found)))

    def _part(self, live: str, replaced: Replaced) -> str:
        """Return a query of the table's rows in the partitions to rewrite."""
        if not isinstance(replaced, Partitions):
            return live
        kind = arrow_schema(self.connection, live).field(replaced.column).type
        return f"{live} where {among(replaced.column, replaced.values, kind)}"

    def _check_unique(self, live: str, rows: str) -> None:
        """Refuse a merge in which two source rows match the same row of the table."""
        if self.rewrite.strategy != "merge":
            return
        keys = ", ".join(identifier(key) for key in self._rewrite.keys)
        doubled = f"select {keys} from ({rows}) group by all having count(*) > 1"
        found = self.connection.execute(
            f"select count(*) from ({doubled}) semi join ({live}) using ({keys})"
        ).fetchone()
        if found and found[0]:
            raise ContractError(
                expected=f"at most one row for each unique_key ({keys})",
                came=f"{found[0]} keys of the table with more than one new row",
                where=self._where,
                remedy="deduplicate in the model (qualify row_number() = 1), or use delete+insert",
            )

    def _write(self, table: DeltaTable, content: str, *, is_changed: bool) -> Schema | None:
        """Write the rows and check them; return the table's new schema, None to keep it."""
        order, columns = self.order, arrow_schema(self.connection, content)
        folder = folder_of(order.table)
        partition_by = table.metadata().partition_columns
        self._written = write_files(self.connection, content, folder, columns, partition_by)
        fields = table.schema().fields
        kept = {field.name for field in fields if not field.nullable}
        comments = {field.name: field.metadata.get("comment", "") for field in fields}
        given = {spelling(name, columns.names) or name: text
                 for name, text in (order.comments or {}).items()}  # fmt: skip
        wanted = {**comments, **given}
        checks = {**constraints_of(table.metadata().configuration), **order.checks}
        written = read_files(folder, [file.path for file in self._written], columns)
        required = {spelling(name, columns.names) or name for name in order.required}
        constraints = Constraints(frozenset(kept | required), checks)
        check_rows(self.connection, self._where, self._written, written, constraints)
        if not is_changed and wanted == comments:
            return None
        return delta_schema(columns, kept, wanted)

    @property
    def _metadata(self) -> dict[str, str]:
        return {
            **run_metadata(None),
            **metadata_of(None, None),
            "model": self.order.model,
            "strategy": self.rewrite.strategy,
            "invocation_id": self.order.invocation_id,
        }

    @property
    def _where(self) -> str:
        return f"model {self.order.table}"

    def _discard(self) -> None:
        """Delete the uncommitted files of an attempt."""
        folder = folder_of(self.order.table)
        storage.delete_files(f"{folder}/{file.path}" for file in self._written)
        self._written = []
