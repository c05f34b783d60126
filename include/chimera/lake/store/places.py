"""Find the folders and files of the lake's relations, with names that every reader can open.

delta_scan decodes `%` in a path and cuts it off after a non-ASCII character, DuckDB expands `*`
(measured with duckdb 1.5.5), and names that begin with `_` are the lake's own: such characters are
escaped as `~<hex>~`. Look-ups ignore case, as SQL does.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from include.chimera.errors import ContractError
from include.chimera.lake.store import storage
from include.chimera.relation import Relation, folded
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def schema_folder(schema: str, root: str = "") -> str:
    """Return the folder of a schema's tables and views, as `folder_of` does."""
    return _find(root or get_settings().lake, schema, storage.folders)


def folder_of(name: Relation | str, root: str = "") -> str:
    """Return a table's folder, whether it exists or not.

    Args:
        name: The table.
        root: The root of the lake; "": this process's own.

    Raises:
        ContractError: Two folders differ only in case, or the name is too long.
    """
    relation = Relation.of(name)
    return _find(schema_folder(relation.schema, root), relation.identifier, _table_folders)


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
            if storage.is_remote(parent):
                _found[place] = wanted  # listing it again would cost a round trip each time
            return f"{parent}/{wanted}"
        _found[place] = twins[0]
    return f"{parent}/{_found[place]}"


def _remember(parent: str, entries: Sequence[str]) -> None:
    """Cache the places of folders that were listed anyway, unless two differ only in case."""
    names = [folded(decoded(entry)) for entry in entries]
    counts = Counter(names)
    for name, entry in zip(names, entries, strict=True):
        if counts[name] == 1:
            _found[parent, name] = entry


def forget_table(name: Relation | str) -> None:
    """Clear a table's cached place, because there is no table (any more)."""
    relation = Relation.of(name)
    if not storage.is_remote(parent := schema_folder(relation.schema)):
        _found.pop((parent, folded(relation.identifier)), None)


def forget() -> None:
    """Clear the cached places, because a folder was removed or moved, maybe by another process."""
    _found.clear()


def _schemas() -> dict[str, str]:
    """Return the folders of the lake's schemas, by schema."""
    root = get_settings().lake
    found = storage.folders(root)
    return {decoded(name): f"{root}/{name}" for name in found if not name.startswith("_")}


def relation_places() -> tuple[dict[Relation, str], list[Relation]]:
    """Return the folders that may be tables, by relation, sorted, and the lake's views."""
    schemas = _schemas()
    parents = [*schemas.values(), *(f"{folder}/{_VIEWS}" for folder in schemas.values())]
    listed = dict(zip(parents, storage.listings(parents), strict=True))
    _remember(get_settings().lake, [folder.rpartition("/")[2] for folder in schemas.values()])
    for parent in schemas.values():
        _remember(parent, [folder for folder in listed[parent].folders if folder not in _OWN])
    tables = {
        Relation(schema, decoded(folder)): f"{parent}/{folder}"
        for schema, parent in schemas.items()
        for folder in listed[parent].folders
        if folder not in _OWN
    }
    views = [
        Relation(schema, decoded(file.removesuffix(_ENDING)))
        for schema, parent in schemas.items()
        for file in listed[f"{parent}/{_VIEWS}"].files
        if file.endswith(_ENDING)
    ]
    return dict(sorted(tables.items())), views
