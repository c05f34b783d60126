"""Run SQL statements, such as hooks, that change a table of the lake.

To DuckDB the lake's tables are views, which it can't change. So a statement runs on a copy of the
table, whose rows then replace the table's in one commit: fine for small tables, costly for others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from include.chimera.errors import CommitConflictError, ContractError
from include.chimera.lake.dbt_plugin.materializations import WHOLE, Order
from include.chimera.lake.delta.constraints import constraints_of
from include.chimera.lake.delta.lineage import is_partial, plan
from include.chimera.lake.delta.scans import relation_of, scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.relation import Relation, unquoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.lake.dbt_plugin.session import Session

_PART = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_CHANGE = re.compile(
    r"\s*(?:insert\s+into|update|delete\s+from|alter\s+table|truncate(?:\s+table)?|merge\s+into)"
    rf"\s+(?P<relation>(?:{_PART}\s*\.\s*){{1,2}}{_PART})",
    re.IGNORECASE,
)
_CREATION = re.compile(
    r"\s*create\s+(?:or\s+replace\s+)?(?P<kind>table|view)\s+(?:if\s+not\s+exists\s+)?"
    rf"(?P<relation>(?:{_PART}\s*\.\s*){{1,2}}{_PART})",
    re.IGNORECASE,
)
_OWN = ("main", "temp")  # a relation created there is meant for this process only
_COMMENTS = re.compile(r"\A(?:\s*(?:--[^\n]*\n|/\*.*?\*/))*", re.DOTALL)
_COPY = "lake_statement_copy"
_ANEW = Retrying(
    retry=retry_if_exception_type(CommitConflictError),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.05, max=5),
    reraise=True,
)


def changed_by(session: Session, statements: str) -> Relation | None:
    """Return the first table of the lake that one of these SQL statements changes, or None."""
    changed = (table for _, table, _ in _changes(session, statements) if table is not None)
    return next(changed, None)


def run_statements(
    session: Session, connection: DuckDBPyConnection, statements: str, partial: str = ""
) -> None:
    """Run SQL statements; one that changes a table of the lake runs on a copy that replaces it.

    If parents are read in part (`partial`), a table built from all rows stays as it is.
    """
    for statement, name, changed in _changes(session, statements):
        if name is None:
            connection.execute(statement)
            continue
        session.stand_alone("a statement that changes the table", name)
        if partial and session.is_whole(name):
            _copy(connection, f"from {relation_of(name)}", changed)
            session.show_only(connection, Order(name, _COPY, WHOLE, partial=partial))
        else:
            with session.changing:
                _ANEW(_change, session, connection, name, changed)
        connection.execute(f"drop table {_COPY}")


def _changes(
    session: Session, statements: str
) -> Iterator[tuple[duckdb.Statement, Relation | None, str]]:
    """Yield each statement, the table of the lake that it changes, and its text for the copy."""
    for statement in duckdb.extract_statements(statements):
        text = _COMMENTS.sub("", statement.query, count=1)
        found = _CHANGE.match(text)
        name, changed = None, ""
        if found is not None:
            parts = [unquoted(part) for part in re.findall(_PART, found["relation"])]
            start, end = found.span("relation")
            name, changed = Relation(*parts[-2:]), text[:start] + _COPY + text[end:]
        is_ours = name is not None and session.is_table(name)
        yield statement, name if is_ours else None, changed


def _change(session: Session, connection: DuckDBPyConnection, name: Relation, changed: str) -> None:
    """Replace a table by the result of a statement on its newest version.

    Raises:
        CommitConflictError: Another writer changed or dropped the table since the statement read
            it.
    """
    table = open_table(name)
    if table is None:
        raise CommitConflictError(
            expected="the table that a statement changes",
            came="none: it was dropped meanwhile",
            where=f"table {name}",
        )
    session.show(name, table)
    _copy(connection, scan(table, name), changed)
    session.replace(connection, _as_it_is(name, table), plan(table, {}, session.run))


def _copy(connection: DuckDBPyConnection, rows: str, changed: str) -> None:
    connection.execute(f"create or replace temp table {_COPY} as {rows}")
    connection.execute(changed)


def _as_it_is(name: Relation, table: DeltaTable) -> Order:
    """Return an order that replaces a table's rows and keeps its metadata."""
    fields, configuration = table.schema().fields, table.metadata().configuration
    return Order(
        table=name,
        source=_COPY,
        strategy=WHOLE,
        partition_by=tuple(table.metadata().partition_columns),
        required=tuple(field.name for field in fields if not field.nullable),
        comments={field.name: str(field.metadata.get("comment", "")) for field in fields},
        checks=constraints_of(configuration),
        partial="kept" if is_partial(table) else "",
        is_rewrite=True,
    )


def creation(statement: str) -> tuple[str, str] | None:
    """Return the kind and name of a table or view that a statement creates as if in the lake.

    It exists only in the session and is gone after this process.
    """
    found = _CREATION.match(_COMMENTS.sub("", statement, count=1))
    if found is None or unquoted(re.findall(_PART, found["relation"])[-2]).lower() in _OWN:
        return None
    return found["kind"].lower(), found["relation"]


def require_no_creation(statement: str) -> None:
    """Refuse a statement that creates a relation in the session as if it were in the lake.

    Raises:
        ContractError: The statement creates one.
    """
    found = creation(statement)
    if found is None:
        return
    kind, name = found
    raise ContractError(
        expected=f"a {kind} of the lake, made by a model, seed or snapshot",
        came=f"create {kind} {name}, gone after this process with its rows",
        where="a hook",
        remedy=f"make it a model or a seed; for this process alone: create temporary {kind}",
    )
