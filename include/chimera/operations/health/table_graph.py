"""The tables that gates publish: what each is made of, what is made of it, which tasks do it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from include.chimera.contracts import CONTRACTS
from include.chimera.paths import DBT_MANIFEST
from include.chimera.profiles.chosen import intakes
from include.chimera.quality.rules.book import gated_tables
from include.chimera.relation import gate_id

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class TableNode:
    """One published table.

    Args:
        table: `<layer>.<table>`.
        description: One row per what.
        parents: The tables that it is made of; none for bronze.
        children: The tables that are made of it.
        tasks: Ids of the tasks that work for it, without their group, in order; the gate is last.
        source: The source that is waited for and read; "": it is a model.
    """

    table: str
    description: str
    parents: tuple[str, ...]
    children: tuple[str, ...]
    tasks: tuple[str, ...]
    source: str = ""

    @property
    def gate(self) -> str:
        """The id of its gate's task, without the group."""
        return self.tasks[-1]


def table_graph() -> dict[str, TableNode]:
    """Return the published tables by name, parents before their children.

    Without dbt's manifest, models have neither parents nor tasks but their gates.
    """
    changed = DBT_MANIFEST.stat().st_mtime_ns if DBT_MANIFEST.is_file() else 0
    return _graph(changed, tuple(gated_tables()))


@cache
def _graph(changed: int, tables: tuple[str, ...]) -> dict[str, TableNode]:
    models = _models() if changed else {}
    parents = {name: [p for p in models.get(name, _NONE)[1] if p in tables] for name in tables}
    children = {name: tuple(c for c in tables if name in parents[c]) for name in tables}
    nodes = {intake.contract.name: intake for intake in intakes()}
    found = {}
    for name in sorted(tables, key=lambda table: (_depth(table, parents), table)):
        intake = nodes.get(name)
        tasks: tuple[str, ...]
        if intake:
            tasks = (f"wait_for_{intake.source}", f"extract_{intake.contract.table}", gate_id(name))
            text, source = CONTRACTS[name].description, intake.source
        else:
            text, _, model = models.get(name, _NONE)
            tasks = (*([f"build_{model}"] if model else []), gate_id(name))
            source = ""
        found[name] = TableNode(name, text, tuple(parents[name]), children[name], tasks, source)
    return found


_NONE: tuple[str, list[str], str] = ("", [], "")


def _depth(table: str, parents: Mapping[str, list[str]]) -> int:
    return 1 + max((_depth(parent, parents) for parent in parents[table]), default=-1)


def _models() -> dict[str, tuple[str, list[str], str]]:
    """Return the description, the tables read and the model's name, by table."""
    manifest = json.loads(DBT_MANIFEST.read_text())
    nodes = {**manifest["sources"], **manifest["nodes"]}
    return {
        _table(node): (node["description"].strip(), sorted(_read(node, nodes)), node["name"])
        for node in nodes.values()
        if node["resource_type"] == "model" and not _is_ephemeral(node)
    }


def _read(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> set[str]:
    """Return the tables that a model reads, through models that are no tables."""
    found: set[str] = set()
    for name in node["depends_on"]["nodes"]:
        parent = nodes.get(name)
        if parent is not None:
            found |= _read(parent, nodes) if _is_ephemeral(parent) else {_table(parent)}
    return found


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return bool(node["config"].get("materialized") == "ephemeral")


def _table(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}.{node.get('identifier') or node.get('alias')}"
