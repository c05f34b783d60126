"""Find the folders and files of the lake's relations, with names that every reader can open.

delta_scan decodes `%` in a path and cuts it off after a non-ASCII character, DuckDB expands `*`
(measured with duckdb 1.5.5), and names that begin with `_` are the lake's own: such characters are
escaped as `~<hex>~`. Look-ups ignore case, as SQL does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from include.chimera.errors import ContractError
from include.chimera.lake.store import storage
from include.chimera.relation import Relation, folded
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]|^[_.]")
_ESCAPE = re.compile(r"~([0-9a-f]{1,5}|10[0-9a-f]{4})~")
_LONGEST = 200  # file systems allow 255 bytes, some of which endings need
_VIEWS = "_views"
_OWN = frozenset({_VIEWS, "_delta_log"})
_ENDING = ".sql"
_found: dict[tuple[str, str], str] = {}


def encoded(name: str) -> str:
    """Return the folder's name for any relation's name.

    Raises:
        ContractError: The folder's name would be too long for a file system.
    """
    folder = _UNSAFE.sub(lambda found: f"~{ord(found[0]):x}~", name)
    if len(folder) > _LONGEST:
        raise ContractError(
            expected=f"a name whose folder has at most {_LONGEST} characters",
            came=f"{len(folder)} characters",
            where=f"the folder of {name[:40]!r}…",
            remedy="give the model a shorter alias; a character beyond ASCII counts up to eight",
        )
    return folder


def decoded(folder: str) -> str:
    """Return the relation's name for a folder's name."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), folder)


def schema_folder(schema: str) -> str:
    """Return the folder of a schema's tables and views."""
    return _find(get_settings().lake, schema, storage.folders)


def folder_of(name: Relation | str) -> str:
    """Return a table's folder, whether it exists or not.

    Raises:
        ContractError: Two folders differ only in case, or the name is too long.
    """
    relation = Relation.of(name)
    return _find(schema_folder(relation.schema), relation.identifier, _table_folders)


def _table_folders(parent: str) -> list[str]:
    return [folder for folder in storage.folders(parent) if folder not in _OWN]


def view_place(name: Relation | str) -> str:
    """Return a view's file, whether it exists or not."""
    relation = Relation.of(name)
    folder = f"{schema_folder(relation.schema)}/{_VIEWS}"
    return _find(folder, relation.identifier, storage.files, _ENDING)


def _find(parent: str, name: str, entries: Callable[[str], list[str]], ending: str = "") -> str:
    place = (parent, folded(name) + ending)
    if place not in _found:
        wanted = encoded(name) + ending
        twins = [
            entry for entry in entries(parent)
            if entry.endswith(ending)
            and folded(decoded(entry.removesuffix(ending))) == folded(name)
        ]  # fmt: skip
        if len(twins) > 1:
            raise ContractError(
                expected="one folder of a relation: its name does not depend on case",
                came=" and ".join(twins),
                where=parent,
                remedy="keep one of them, and move the other out of the lake or rename it",
            )
        if not twins:
            return f"{parent}/{wanted}"
        _found[place] = twins[0]
    return f"{parent}/{_found[place]}"


def forget() -> None:
    """Clear the cached places, because a folder was removed or moved, maybe by another process."""
    _found.clear()


def schema_names() -> list[str]:
    """Return the lake's schemas (layers), sorted."""
    found = storage.folders(get_settings().lake)
    return sorted(decoded(name) for name in found if not name.startswith("_"))


def table_folders() -> dict[Relation, str]:
    """Return the folders that may be tables, by relation, sorted."""
    found = {}
    for schema in schema_names():
        parent = schema_folder(schema)
        for folder in _table_folders(parent):
            found[Relation(schema, decoded(folder))] = f"{parent}/{folder}"
    return dict(sorted(found.items()))


def view_names() -> list[Relation]:
    """Return the lake's views."""
    return [
        Relation(schema, decoded(file.removesuffix(_ENDING)))
        for schema in schema_names()
        for file in storage.files(f"{schema_folder(schema)}/{_VIEWS}")
        if file.endswith(_ENDING)
    ]
