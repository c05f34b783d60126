"""Views of the lake: SQL stored beside the tables, so that every process can create them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.chimera.lake.store import storage
from include.chimera.lake.store.places import forget, view_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.chimera.relation import Relation

_HEAD = "-- lake: "


@dataclass(frozen=True)
class View:
    """A view's query and its comments.

    Args:
        query: SQL that names relations with their schema.
        description: Comment of the view, None for none.
        comments: Comment by column.
    """

    query: str
    description: str | None = None
    comments: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> View:
        """Parse the dict that the view materialization passes."""
        return cls(document["query"], document["description"], dict(document["comments"] or {}))

    def text(self) -> str:
        """Return the view's file: its comments on the first line, then the query."""
        head = json.dumps({"description": self.description, "comments": self.comments})
        return f"{_HEAD}{head}\n{self.query}\n"

    @classmethod
    def read(cls, text: str) -> View:
        """Parse a file that `text` wrote."""
        head, _, query = text.partition("\n")
        return cls.parse({"query": query, **json.loads(head.removeprefix(_HEAD))})


def save_view(name: Relation, view: View) -> None:
    """Save a view, replacing any older one."""
    storage.write_text(view_place(name), view.text())


def drop_view(name: Relation) -> None:
    """Delete a view's file, if it exists."""
    storage.delete_files([view_place(name)])
    forget()


def load_view(name: Relation) -> View | None:
    """Return a view, None if it does not exist."""
    text = storage.read_text(view_place(name))
    return None if text is None else View.read(text)
