"""SQL statements that change a table of the lake, as hooks write them.

To DuckDB the lake's tables are views, which it can't change. Such a statement runs on a copy of the
table, whose rows then replace the table's in one commit: right for small tables, costly for others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from include.chimera.errors import ContractError
from include.chimera.relation import Relation, unquoted

if TYPE_CHECKING:
    from collections.abc import Callable

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
_OWN = ("main", "temp")  # what a statement makes there, it means for its process alone
_COMMENTS = re.compile(r"\A(?:\s*(?:--[^\n]*\n|/\*.*?\*/))*", re.DOTALL)
COPY = "lake_statement_copy"


def changed_table(
    statement: str, is_table: Callable[[Relation], bool]
) -> tuple[Relation, str] | None:
    """Return the lake's table that a statement changes, and the statement on the copy of it.

    Args:
        statement: One SQL statement.
        is_table: Tells whether the lake has such a table.
    """
    text = _COMMENTS.sub("", statement, count=1)
    found = _CHANGE.match(text)
    if found is None:
        return None
    parts = [unquoted(part) for part in re.findall(_PART, found["relation"])]
    name = Relation(*parts[-2:])
    if not is_table(name):
        return None
    start, end = found.span("relation")
    return name, text[:start] + COPY + text[end:]


def creation(statement: str) -> tuple[str, str] | None:
    """Return the kind and name of what a statement makes in the session, as if it were the lake's.

    Whatever is written there is gone after this process.
    """
    found = _CREATION.match(_COMMENTS.sub("", statement, count=1))
    if found is None or unquoted(re.findall(_PART, found["relation"])[-2]).lower() in _OWN:
        return None
    return found["kind"].lower(), found["relation"]


def require_no_creation(statement: str) -> None:
    """Refuse a statement that makes a relation in the session, where a person expects the lake's.

    Raises:
        ContractError: It does.
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
