"""dbt's cursor on the lake, whose errors say what failed without a row's content.

Models, tests, hooks, seeds, snapshots and `dbt show` all use it. DuckDB runs a query while its rows
are fetched, so fetching fails in the same ways as executing.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper
from dbt_common.events.contextvars import get_node_info

from include.chimera.lake.dbt_plugin.statements import creation
from include.chimera.lake.store.cast_errors import is_mistake
from include.chimera.lake.store.storage_errors import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from duckdb import DuckDBPyConnection

    from include.chimera.errors import ChimeraError

logger = logging.getLogger(__name__)
_UNTOLD = "its text is left out: it may hold rows"
# If a value fails while rows are fetched, DuckDB 1.5.5 says only "interrupted" 1 time in 100.
_INTERRUPTED = "Interrupted: by a person, or a value did not fit. Run it again to be told which"


class TellingCursor(DuckDBCursorWrapper):
    """A cursor that raises our errors.

    Args:
        explain: Returns our error behind one of DuckDB's, or None.
        cursor: DuckDB's cursor.
    """

    def __init__(
        self,
        explain: Callable[[duckdb.Error], ChimeraError | None],
        cursor: DuckDBPyConnection,
    ) -> None:
        super().__init__(cursor)  # type: ignore[no-untyped-call]  # dbt-duckdb's
        self._explain = explain

    def execute(self, sql: str, bindings: Sequence[Any] | None = None) -> DuckDBPyConnection:
        """Run a statement; `on-run-start` hooks call no macro, so only this sees them."""
        if made := creation(sql):
            logger.warning("create %s %s: it is gone after this process with its rows", *made)
        with self._telling():
            ran: DuckDBPyConnection = self._cursor.execute(sql, bindings)
            return ran

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        with self._telling():
            return list(self._cursor.fetchall())

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        with self._telling():
            return list(self._cursor.fetchmany(size))

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        with self._telling():
            row: tuple[Any, ...] | None = self._cursor.fetchone()
            return row

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException:
            raise duckdb.InterruptException(_INTERRUPTED) from None
        except (duckdb.Error, UnicodeDecodeError) as error:
            where = get_node_info().get("unique_id") or "a statement of dbt"
            known = self._explain(error) if isinstance(error, duckdb.Error) else None
            found = known or translate(error, where)
            if found is None and is_mistake(error):
                raise
            raise found or duckdb.Error(f"{type(error).__name__}: {_UNTOLD}") from None
