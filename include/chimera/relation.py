"""The identity of a relation: its schema and its identifier.

DuckDB and Delta compare names without case, so two spellings are one relation. `str` gives the text
form, for manifests, marks and commands, and `Relation.parse` reads it back:
`silver.fct_generations`, or `dev."events.v2"` if a part is not a plain word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.chimera.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_]+")
_TEXT = re.compile(r'("(?:[^"]|"")+"|[^".]+)\.("(?:[^"]|"")+"|[^".]+)')


def folded(name: str) -> str:
    """Return the form that all spellings of a name share."""
    return name.lower()


def spelling(name: str, names: Iterable[str]) -> str | None:
    """Return how a name is spelled among others, None if it is not among them.

    Args:
        name: As a person writes it: plain or in quotes, in any case.
        names: The others.
    """
    known = {folded(other): other for other in names}
    return known.get(folded(name)) or known.get(folded(unquoted(name)))


def unquoted(text: str) -> str:
    """Remove the quotes of a quoted SQL identifier; return any other text unchanged."""
    is_quoted = len(text) > 2 and text[0] == text[-1] == '"'  # noqa: PLR2004 - two quotes
    return text[1:-1].replace('""', '"') if is_quoted else text


def gate_id(table: str) -> str:
    """Return the id of the task that judges a table (`<layer>.<table>`), without its group."""
    return f"gate_{table.replace('.', '_')}"


@dataclass(frozen=True, eq=False)
class Relation:
    """A table or view, as spelled; equal to spellings that differ only in case.

    Raises:
        ContractError: A part is empty or blank, or holds unprintable characters.
    """

    schema: str
    identifier: str

    def __post_init__(self) -> None:
        """Refuse parts that can't be written as a folder or in SQL."""
        for part in (self.schema, self.identifier):
            if not part or not part.isprintable() or part.isspace():
                raise ContractError(
                    expected="a schema and an identifier of printable characters",
                    came=f"{part!r}",
                    where=f"relation {self.schema!r}, {self.identifier!r}",
                    remedy="give the model another alias, or another schema",
                )

    @classmethod
    def parse(cls, text: str) -> Relation:
        """Parse the text form that `str` returns.

        Raises:
            ContractError: The text is not a schema and an identifier.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ContractError(
                expected='<schema>.<identifier>, a part with dots or quotes as "part"',
                came=f"{text!r}",
                where="the name of a relation",
                remedy='write it as in SQL, e.g. dev."events.v2"',
            )
        return cls(unquoted(found[1]), unquoted(found[2]))

    @classmethod
    def of(cls, name: Relation | str) -> Relation:
        """Return the relation, parsing it if it is given as text."""
        return name if isinstance(name, Relation) else cls.parse(name)

    @property
    def key(self) -> str:
        """The text that all spellings of this relation share."""
        return folded(str(self))

    def __str__(self) -> str:
        """Return the text form."""
        return ".".join(
            part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"'
            for part in (self.schema, self.identifier)
        )

    def __eq__(self, other: object) -> bool:
        """Compare without case."""
        return isinstance(other, Relation) and self.key == other.key

    def __hash__(self) -> int:
        """Agree with `==`."""
        return hash(self.key)

    def __lt__(self, other: Relation) -> bool:
        """Sort by text."""
        return self.key < other.key
