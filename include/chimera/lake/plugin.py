"""The dbt-duckdb plugin that makes the lake dbt's database.

Each process gets an in-memory DuckDB whose relations are the lake's tables, pinned to the versions
found at connect. A materialization hands its query to `store`, which writes data files and then
either commits them (standalone) or leaves them for the gate (in a DAG run: `CHIMERA_RUN` is set).

SQL functions for the macros: `lake_touched(model, parents)` and `lake_arrived(model, parents,
parent)` return the hours to recompute (NULL: all), `lake_built(model)` the partitions built by this
process (NULL: not built here, or whole).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin
from deltalake import Schema
from duckdb.func import FunctionNullHandling

from include.chimera.lake.builds import commit_build, partitions_of
from include.chimera.lake.engine import among, identifier, prepare, session_config
from include.chimera.lake.files import write_files
from include.chimera.lake.lineage import Plan, plan
from include.chimera.lake.relations import define_view, read_files, register, scan
from include.chimera.lake.stage import Build, save
from include.chimera.lake.tables import folder_of
from include.chimera.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.adapters.duckdb.utils import TargetConfig
    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.window import Run


class Plugin(BasePlugin):
    """Shows the lake's tables to dbt and stores its models there."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Start with nothing known of the lake."""
        del plugin_config
        # Read anew: Cosmos sets the environment after the DAG file's settings were read.
        self._run: Run | None = Settings().run
        self._tables: dict[str, DeltaTable | None] = {}
        self._built: dict[str, list[str] | None] = {}
        self._lock = threading.Lock()

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Bound the session's memory and threads by the settings."""
        del creds
        for name, value in session_config().items():
            config.setdefault(name, value)

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Load the delta extension, show the tables, define the functions."""
        self._connection = conn
        prepare(conn)
        self._tables = register(conn)
        text, texts = "VARCHAR", "VARCHAR[]"
        functions: list[tuple[str, Callable[..., Any], list[Any]]] = [
            ("lake_touched", self._touched, [text, texts]),
            ("lake_arrived", self._arrived, [text, texts, text]),
            ("lake_built", self._built_here, [text]),
        ]
        for name, function, parameters in functions:
            conn.create_function(
                name,
                function,
                parameters,
                texts,
                null_handling=FunctionNullHandling.SPECIAL,
                side_effects=True,
            )

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Give the session the run's window, as `getvariable('window_start' | 'window_end')`."""
        cursor.execute("set TimeZone = 'UTC'")
        if self._run:
            window = self._run.window
            cursor.execute(f"set variable window_start = timestamptz '{window.start.isoformat()}'")
            cursor.execute(f"set variable window_end = timestamptz '{window.end.isoformat()}'")

    def store(self, target_config: TargetConfig) -> None:
        """Write the rows of the view `<relation>__dbt_tmp` and stage or commit them."""
        relation, config = target_config.relation, target_config.config
        name = f"{relation.schema}.{relation.identifier}"
        partition_by = [config["partition_by"]] if config["partition_by"] else []
        query = f"from {relation.schema}.{identifier(f'{relation.identifier}__dbt_tmp')}"
        planned = self._plan(name, config["parents"])
        replaced = None
        if config["replace"] == "window" and planned.touched is not None:
            replaced = partitions_of(planned.touched, partition_by)
            query = f"{query} where {among(partition_by[0], replaced)}"
        with self._connection.cursor() as cursor:
            self.configure_cursor(cursor)
            columns = cursor.execute(f"select * from ({query}) limit 0").to_arrow_table().schema
            build = Build(
                table=name,
                files=write_files(cursor, query, folder_of(name), columns, partition_by),
                schema=Schema.from_arrow(columns).to_json(),
                partition_by=partition_by,
                replaced=replaced,
                plan=planned,
                invocation_id=config["invocation_id"],
            )
            self._show(cursor, build, columns)
        with self._lock:
            self._built[name] = replaced

    def _show(self, cursor: DuckDBPyConnection, build: Build, columns: Any) -> None:  # noqa: ANN401 - a pyarrow schema
        """Commit or stage, and let this process see the model as it will be."""
        name = build.table
        if self._run is None:
            table = commit_build(build, None)
            with self._lock:
                self._tables[name] = table
            define_view(cursor, name, scan(table, name))
            return
        save(self._run, build)
        paths = [file.path for file in build.files]
        query = read_files(folder_of(name), paths, columns)
        live = self._tables.get(name)
        if live is not None and build.replaced is not None:
            replaced = among(build.partition_by[0], build.replaced)
            query = f"{scan(live, name)} where not {replaced} union all by name {query}"
        define_view(cursor, name, query)

    def _plan(self, model: str, parents: list[str]) -> Plan:
        with self._lock:
            read = {name: self._tables.get(name) for name in parents}
            return plan(self._tables.get(model), read, self._run)

    def _touched(self, model: str, parents: list[str]) -> list[str] | None:
        touched = self._plan(model, parents).touched
        return None if touched is None else sorted(touched)

    def _arrived(self, model: str, parents: list[str], parent: str) -> list[str] | None:
        arrived = self._plan(model, parents).arrived.get(parent)
        return None if arrived is None else sorted(arrived)

    def _built_here(self, model: str) -> list[str] | None:
        return self._built.get(model)
