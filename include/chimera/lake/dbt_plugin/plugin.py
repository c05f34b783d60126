"""The dbt-duckdb plugin that makes the lake dbt's database.

Each process gets an in-memory DuckDB in which the lake's tables and views appear as statements name
them (`catalog`). A materialization passes its request to `store`, which either commits at once
(standalone) or stages for the gate (in a DAG run: `CHIMERA_RUN` is set).

The macros call these SQL functions, with a relation as the list of its schema and identifier:
`lake_touched(model, parents)` and `lake_arrived(model, parents, parent)` return the hours to
recompute (NULL: all); `lake_built(model)` the partitions that this process built (NULL: none, or
the whole table); `lake_names(schema)` the lake's relations in a schema; `lake_kind(relation)`
whether one is a table or a view; and `lake_is_preview('')` whether published tables of another lake
are read (`CHIMERA_PUBLISHED`).
"""

from __future__ import annotations

import contextlib
import threading
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import duckdb
from dbt.adapters.duckdb.environments import local
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import CompilationError, DbtRuntimeError
from duckdb.func import FunctionNullHandling

from include.chimera.errors import ChimeraError, ConfigurationError, ContractError
from include.chimera.lake.dbt_plugin.cursor import TellingCursor
from include.chimera.lake.dbt_plugin.materializations import Order
from include.chimera.lake.dbt_plugin.session import Session
from include.chimera.lake.dbt_plugin.statements import (
    changed_by,
    require_no_creation,
    run_statements,
)
from include.chimera.lake.dbt_plugin.views import View
from include.chimera.lake.delta.scans import relation_of
from include.chimera.lake.store.cast_errors import (
    failing_column,
    is_about_rows,
    is_mistake,
    names_column,
    rows_error,
    unwrapped,
)
from include.chimera.lake.store.duckdb_sessions import lake_config, prepare
from include.chimera.lake.store.places import folder_of
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.relation import Relation
from include.chimera.settings import Settings, get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.adapters.duckdb.utils import TargetConfig
    from duckdb import DuckDBPyConnection


class Plugin(BasePlugin):
    """Shows the lake's tables to dbt and stores its models there."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Start an empty session."""
        del plugin_config
        # Read the settings again: Cosmos sets the environment after the DAG file has read them.
        self._session = Session(Settings().run)
        self._local = threading.local()
        self._raised: list[ChimeraError] = []
        # dbt-duckdb offers no hook for a custom cursor.
        local.DuckDBCursorWrapper = partial(TellingCursor, self._behind)  # type: ignore[misc, assignment]

    def _behind(self, error: duckdb.Error) -> ChimeraError | None:
        """Return our error that DuckDB wrapped in one of its own, or None."""
        text = str(error)
        raised = (known for known in reversed(self._raised) if str(known) in text)
        return next(raised, None) or self._session.catalog.behind(error)

    def _told(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap an SQL function to remember the errors that it raises."""

        @wraps(function)
        def telling(*arguments: Any) -> Any:  # noqa: ANN401 - as the function
            try:
                return function(*arguments)
            except ChimeraError as error:
                self._raised.append(error)
                raise

        return telling

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Limit the session's memory and threads by the settings."""
        del creds
        for name, value in lake_config().items():
            config.setdefault(name, value)

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Load the extensions, list the lake, define the functions."""
        prepare(conn)
        self._session.attach(conn)
        text, texts, many = "VARCHAR", "VARCHAR[]", "VARCHAR[][]"
        functions: list[tuple[str, Callable[..., Any], list[Any], Any]] = [
            ("lake_touched", self._touched, [texts, many], texts),
            ("lake_arrived", self._arrived, [texts, many, texts], texts),
            ("lake_built", self._built, [texts], texts),
            ("lake_names", self._names, [text], texts),
            ("lake_kind", self._kind, [texts], text),
            ("lake_is_partial", self._is_partial, [texts], "BOOLEAN"),
            ("lake_changed_by", self._changed_by, [text], text),
            ("lake_is_preview", self._is_preview, [text], "BOOLEAN"),
        ]
        for name, function, parameters, returned in functions:
            conn.create_function(
                name,
                self._told(function),
                parameters,
                returned,
                null_handling=FunctionNullHandling.SPECIAL,
                side_effects=True,
            )

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Set the run's window (UTC) as the session variables `window_start` and `window_end`."""
        self._local.cursor = cursor
        cursor.execute("set TimeZone = 'UTC'")
        run = self._session.run
        if run:
            window = run.window
            cursor.execute(f"set variable window_start = timestamptz '{window.start.isoformat()}'")
            cursor.execute(f"set variable window_end = timestamptz '{window.end.isoformat()}'")

    def store(self, target_config: TargetConfig) -> None:
        """Carry out a macro's request (`macros/lake/`).

        Uses the thread's own connection, so that the model sees what its hooks set up.
        """
        config, relation = target_config.config, target_config.relation
        name = f"{relation.schema}.{relation.identifier}"
        with _reported(name, self._session.catalog.behind):
            if config["action"] == "show":
                self._show(config["statement"])
                self._require(_relations(config["parents"]), config["statement"])
            elif config["action"] == "drop_schema":
                self._session.drop_schema(str(relation.schema))
            else:
                found = _checked(str(relation.schema), str(relation.identifier))
                self._do(found, config)

    def _do(self, name: Relation, config: Mapping[str, Any]) -> None:
        match config["action"]:
            case "check":
                folder_of(name)
            case "write":
                self._write(Order.parse(name, config))
            case "view":
                self._session.save_view(name, View.parse(config), config["partial"] or "")
            case "drop":
                self._session.drop(name)
            case "rename":
                self._session.rename(name, _checked(*config["target"]))
            case "statements":
                cursor, partial = self._local.cursor, config["partial"] or ""
                run_statements(self._session, cursor, config["statements"], partial)

    def _write(self, order: Order) -> None:
        """Store a model's rows; name the column of a value that does not fit, if DuckDB doesn't."""
        try:
            self._session.write(self._local.cursor, order)
        except duckdb.Error as error:
            if not is_about_rows(unwrapped(error)) or names_column(error):
                raise
            column = failing_column(self._local.cursor, f"from {order.source}")
            raise rows_error(error, f"model {order.table}", column) from None

    def _show(self, statement: str | None) -> None:
        """Show what a statement names (None: everything), also to an already open transaction."""
        catalog, local = self._session.catalog, self._local
        shown = catalog.show_all() if statement is None else catalog.show_named(statement)
        if shown <= getattr(local, "seen", 0):
            return
        local.seen = catalog.count
        unopened = (AttributeError, duckdb.ConnectionException, duckdb.TransactionException)
        with contextlib.suppress(*unopened):
            local.cursor.execute("commit")
            local.cursor.execute("begin")

    def _require(self, parents: list[Relation], statement: str) -> None:
        """Refuse a model whose SQL names a parent that is in neither the lake nor the session."""
        for parent in parents:
            if relation_of(parent) in statement and not self._session.catalog.has(parent):
                raise ConfigurationError(
                    expected=f"a table or view {parent}, which the model reads",
                    came="none of this name",
                    where=f"the lake {get_settings().lake}",
                    remedy="build it first: dbt build --select +<model>; a source comes from the "
                    "pipeline (make run); or the lake is another one: CHIMERA_LAKE_ROOT",
                )

    def _touched(self, model: list[str], parents: list[list[str]]) -> list[str] | None:
        touched = self._session.plan(Relation(*model), _relations(parents)).touched
        return None if touched is None else sorted(touched)

    def _arrived(
        self, model: list[str], parents: list[list[str]], parent: list[str]
    ) -> list[str] | None:
        planned = self._session.plan(Relation(*model), _relations(parents))
        arrived = planned.arrived.get(Relation(*parent))
        return None if arrived is None else sorted(arrived)

    def _built(self, model: list[str]) -> list[str] | None:
        return self._session.built_partitions(Relation(*model))

    def _names(self, schema: str) -> list[str]:
        return [relation.identifier for relation in self._session.catalog.names(schema)]

    def _kind(self, relation: list[str]) -> str | None:
        return self._session.catalog.kind(Relation(*relation))

    def _is_partial(self, relation: list[str]) -> bool:
        return self._session.is_partial(Relation(*relation))

    def _is_preview(self, _: str) -> bool:
        return get_settings().published is not None

    def _changed_by(self, statements: str) -> str | None:
        for statement in duckdb.extract_statements(statements):
            require_no_creation(statement.query)
        changed = changed_by(self._session, statements)
        return None if changed is None else str(changed)


def _relations(parts: Iterable[Iterable[str]]) -> list[Relation]:
    return [Relation(*part) for part in parts]


def _checked(schema: str, identifier: str) -> Relation:
    """Return the relation; refuse a name with quotes, which dbt does not escape in SQL."""
    if '"' in schema + identifier:
        raise ContractError(
            expected="a schema and an alias without double quotes",
            came=f"{schema!r}, {identifier!r}",
            where="the name of a dbt model",
            remedy="set another alias: dbt writes names into SQL as they are",
        )
    return Relation(schema, identifier)


@contextlib.contextmanager
def _reported(
    name: str, behind: Callable[[duckdb.Error], ChimeraError | None] = lambda _: None
) -> Iterator[None]:
    """Turn our errors into dbt's, so that dbt reports them with their message as the model's."""
    try:
        with storage_errors(f"{name}, below {get_settings().lake}"):
            yield
    except ContractError as error:
        raise CompilationError(str(error)) from error
    except duckdb.Error as error:
        known = behind(error)
        text = str(known or error) if known or is_mistake(error) else type(error).__name__
        message = f"{name}: {text}"
        raise DbtRuntimeError(message) from known
    except ChimeraError as error:
        message = f"{name}: {error}"
        raise DbtRuntimeError(message) from error
