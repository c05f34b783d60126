"""Expose the lake's relations in a DuckDB database, each when a statement first names it.

A table that can't be opened affects only what reads it: the catalog leaves it out and keeps the
error.

Opening a table costs several requests (delta-rs and DuckDB each read its log), so a process opens
only what it reads. From then on it sees the version that it opened, or a later one that it
committed.
"""

from __future__ import annotations

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import duckdb

from include.chimera.contracts import BRONZE, CONTRACTS
from include.chimera.errors import ChimeraError, LakeError, RetryableError
from include.chimera.lake.dbt_plugin.views import View, load_view
from include.chimera.lake.delta.scans import (
    define,
    empty,
    open_readable,
    padded,
    pin,
    readable_relations,
    remove,
    show_view,
)
from include.chimera.lake.store.duckdb_sessions import identifier
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.relation import Relation, folded

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Future

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)
_AT_ONCE = 8  # tables that are opened at once
_WORD = re.compile(r"\w+")
_TABLE, _VIEW = "table", "view"
_MISSING = re.compile(r"Table with name (.+?) does not exist")


class Catalog:
    """The lake's tables and views as one process sees them; shared by its threads.

    Args:
        connection: DuckDB session whose database gets the relations.

    Attributes:
        count: How many times a relation was shown so far.
    """

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._kinds = dict.fromkeys((contract.relation for contract in BRONZE), _TABLE)
        tables, views = readable_relations()
        self._kinds |= dict.fromkeys(tables, _TABLE) | dict.fromkeys(views, _VIEW)
        self._waiting = set(self._kinds)
        self._shown: dict[Relation, int] = {}
        self.count = 0
        self._tables: dict[Relation, DeltaTable | None] = {}
        self._pins: dict[Relation, str] = {}
        self._views: dict[Relation, View] = {}
        self._bad: dict[Relation, ChimeraError] = {}

    def names(self, schema: str) -> list[Relation]:
        """Return the lake's relations of a schema."""
        wanted = folded(schema)
        return [name for name in sorted(self._kinds) if folded(name.schema) == wanted]

    def kind(self, name: Relation) -> str | None:
        """Return `table` or `view`, None if the lake has no such relation."""
        return self._kinds.get(name)

    def has(self, name: Relation) -> bool:
        """Does the lake or the DuckDB session have a relation with this name?"""
        if name in self._kinds:
            return True
        known = (
            "select 1 from system.information_schema.tables "
            "where lower(table_schema) = lower(?) and lower(table_name) = lower(?)"
        )
        with self._connection.cursor() as cursor:
            found = cursor.execute(known, [name.schema, name.identifier])
            return found.fetchone() is not None

    def table(self, name: Relation) -> DeltaTable | None:
        """Return a table at the version that this process sees, None if it does not exist yet.

        Raises:
            LakeError: The table can't be opened.
        """
        self._show([name])
        if name in self._bad:
            raise self._bad[name]
        return self._tables.get(name)

    def view(self, name: Relation) -> View | None:
        """Return a view of the lake, None if there is none with this name."""
        self._show([name])
        return self._views.get(name)

    def show_named(self, statement: str) -> int:
        """Show the relations that a statement names; return the highest `count` among them.

        A relation counts as named if the first word of its name is a word of the statement: this
        may show too many, but misses none. The returned `count` is when the newest of them was
        shown: a transaction begun before that, perhaps by another thread, does not see it.
        """
        text = folded(statement)
        words = set(_WORD.findall(text))
        with self._lock:
            return self._show([name for name in self._kinds if _is_named(name, text, words)])

    def show_all(self) -> int:
        """Show every relation of the lake, otherwise like `show_named`."""
        with self._lock:
            shown = self._show(list(self._kinds))
            for name, error in self._bad.items():
                logger.warning("%s is left out: %s", name, error)
            return shown

    def behind(self, error: BaseException) -> ChimeraError | None:
        """Return the error that kept a relation missing from a statement, None if there is none."""
        found = _MISSING.search(str(error)) if isinstance(error, duckdb.CatalogException) else None
        missing = found[1].rpartition(".")[2].strip('"').lower() if found else None
        known = (bad for name, bad in self._bad.items() if _last(name) == missing)
        return next(known, None)

    def _show(self, names: Collection[Relation]) -> int:
        with self._lock, ThreadPoolExecutor(_AT_ONCE) as pool:
            fresh = [name for name in names if name in self._waiting]
            opened = {
                name: pool.submit(self._opened, name)
                for name in fresh
                if self._kinds[name] == _TABLE
            }
            for name in fresh:
                if name not in self._waiting:  # shown by a view that reads it
                    continue
                self._waiting.discard(name)
                if name in opened:
                    self._show_table(name, opened[name])
                else:
                    self._show_view(name)
            return max((self._shown.get(name, 0) for name in names), default=0)

    def _opened(self, name: Relation) -> tuple[DeltaTable | None, str]:
        """Open a table here and in DuckDB, both of which read its log; return it and its rows."""
        table = open_readable(name, has_files=False)
        return table, "" if table is None else self._pin(name, table)

    def _show_table(self, name: Relation, opened: Future[tuple[DeltaTable | None, str]]) -> None:
        try:
            with storage_errors(f"{name}, opening it"):
                self._define_opened(name, *opened.result())
        except ChimeraError as error:
            if not isinstance(error, LakeError):
                raise
            self._leave_out(name, error)

    def _leave_out(self, name: Relation, error: ChimeraError) -> None:
        """Keep the error of a relation that can't be shown; retry if retryable when next named."""
        self._bad[name] = error
        if isinstance(error, RetryableError):
            self._waiting.add(name)
        with self._connection.cursor() as cursor:
            cursor.execute(f"create schema if not exists {identifier(name.schema)}")

    def _define_opened(self, name: Relation, table: DeltaTable | None, rows: str) -> None:
        self._tables[name] = table
        if table is not None:
            contract = CONTRACTS.get(name.key)
            self.define(name, padded(rows, table, contract) if contract else rows)
        elif name.key in CONTRACTS:
            self.define(name, empty(CONTRACTS[name.key].schema))
        else:
            self.forget(name)

    def _show_view(self, name: Relation) -> None:
        view = load_view(name)
        if view is None:
            self.forget(name)
            return
        self._views[name] = view
        self.show_named(view.query)
        try:
            with self._connection.cursor() as cursor:
                show_view(cursor, name, view)
            self._note(name)
        except duckdb.Error as error:
            if (known := self.behind(error)) is not None:
                self._leave_out(name, known)
                return
            logger.warning("view %s can't be shown: a relation that it reads is missing", name)

    def define(self, name: Relation, query: str) -> None:
        """Make a table's relation show a query's rows."""
        with self._lock, self._connection.cursor() as cursor:
            self._kinds.setdefault(name, _TABLE)
            self._waiting.discard(name)
            define(cursor, name, query, self._tables.setdefault(name, None))
            self._note(name)

    def _note(self, name: Relation) -> None:
        self._bad.pop(name, None)
        self.count += 1
        self._shown[name] = self.count

    def put_table(self, name: Relation, table: DeltaTable) -> bool:
        """Show a table at a committed version; return whether it was a view before.

        If another thread has already shown a later version, that one stays.
        """
        with self._lock:
            known = self._tables.get(name)
            if known is not None and known.version() > table.version():
                return False
            was_view = self.kind(name) == _VIEW
            self._views.pop(name, None)
            self._kinds[name] = _TABLE
            self._tables[name] = table
            self.define(name, self._pin(name, table))
        return was_view

    def live(self, name: Relation) -> str:
        """Return a query of a table's rows at the version that this process sees."""
        return self._pins[name]

    def _pin(self, name: Relation, table: DeltaTable) -> str:
        with self._connection.cursor() as cursor:
            self._pins[name] = pin(cursor, table, name)
        return self._pins[name]

    def put_view(self, name: Relation, view: View) -> bool:
        """Show a view; return whether it was a table before."""
        with self._lock, self._connection.cursor() as cursor:
            was_table = self.kind(name) == _TABLE
            self._waiting.discard(name)
            self.show_named(view.query)
            show_view(cursor, name, view)
            self._note(name)
            self._tables.pop(name, None)
            self._kinds[name], self._views[name] = _VIEW, view
        return was_table

    def forget(self, name: Relation) -> None:
        """Remove a relation from the session."""
        with self._lock, self._connection.cursor() as cursor:
            remove(cursor, name)
            for known in (self._kinds, self._tables, self._views, self._bad):
                known.pop(name, None)
            self._waiting.discard(name)


def _is_named(name: Relation, text: str, words: Collection[str]) -> bool:
    identifier = folded(name.identifier)
    first = _WORD.search(identifier)
    return first[0] in words if first else identifier in text


def _last(name: Relation) -> str:
    """Return the part of a name after its last dot, to compare with names in DuckDB's messages."""
    return name.identifier.rpartition(".")[2].lower()
