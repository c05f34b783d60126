"""What is known of each table of the lake: from contracts, dbt's descriptions and the gates' rules.

The data dictionary and the contracts in ODCS are two forms of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from include.chimera.contracts import BRONZE, OPS, PARTITION, ROW_HASH
from include.chimera.lake.publish.model_builds import DAY_PARTITION
from include.chimera.lake.store.duckdb_sessions import described
from include.chimera.paths import DBT_PROJECT
from include.chimera.quality.rules.book import RULES, read_rule_book

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.chimera.contracts import Contract

LAYERS = {
    "bronze": "What sources said, in each version.",
    "silver": "Bronze cleaned: the newest version of each row, in the hour of its event.",
    "gold": "What readers use: facts, dimensions and aggregates.",
    "ops": "What the pipeline did.",
}
_MODELS = DBT_PROJECT / "models"
_DOC = re.compile(r"{% docs (\w+) %}(.*?){% enddocs %}", re.DOTALL)
_USE = re.compile(r"{{ doc\('(\w+)'\) }}")
_REF = re.compile(r"ref\('(\w+)'\)")
_HOURS = "each hour; a late row rewrites the hour of its event"
_FRESHNESS = {
    "staging": _HOURS,
    "hourly": _HOURS,
    "daily": "each hour; the newest day is incomplete until it ends",
    "marts": "rebuilt whole each hour",
}
_UNITS = {
    "_usd_per_mtok": "US dollars per million tokens",
    "_usd": "US dollars",
    "_ms": "milliseconds",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_tokens": "tokens",
    "_ratio": "0 to 1",
    "_date": "UTC day",
}


@dataclass(frozen=True)
class Column:
    """One column; its type is DuckDB's."""

    name: str
    kind: str
    is_required: bool
    text: str

    @property
    def unit(self) -> str:
        """The unit that the name's ending or the type says, else nothing."""
        if self.kind == "TIMESTAMP WITH TIME ZONE":
            return "UTC"
        return next((unit for ending, unit in _UNITS.items() if self.name.endswith(ending)), "")


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: `<layer>.<table>`.
        text: What one row is, and what to know of the whole.
        key: The columns that identify a row.
        owner: Who is responsible.
        freshness: When its rows come.
        columns: In the table's order.
        readers: Models and exposures that read it.
        example: An SQL query that a reader may begin with; "" in bronze and ops.
        retention_days: How long rows are kept; None: for ever.
        kind: The contract's kind; "" for a model.
    """

    name: str
    text: str
    key: tuple[str, ...]
    owner: str
    freshness: str
    columns: tuple[Column, ...]
    readers: tuple[str, ...] = ()
    example: str = ""
    retention_days: int | None = None
    kind: str = ""

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The partition columns, at most one."""
        names = (column.name for column in self.columns)
        return tuple(name for name in names if name in (PARTITION, DAY_PARTITION))


def tables(layer: str) -> list[Table]:
    """Return a layer's tables: contracts in their order, models by name."""
    if layer in ("bronze", "ops"):
        return [_of_contract(contract) for contract in (BRONZE if layer == "bronze" else OPS)]
    found = (_of_model(entry, path) for entry, path in _models())
    return sorted((t for t in found if t.name.startswith(layer)), key=lambda table: table.name)


def examples() -> dict[str, str]:
    """Return the example query of each silver and gold table, by table."""
    return {each.name: each.example for layer in ("silver", "gold") for each in tables(layer)}


def _of_contract(contract: Contract) -> Table:
    types = dict(described(contract.schema))
    return Table(
        name=contract.name,
        text=contract.description,
        key=(*contract.key, *([ROW_HASH] if contract.kind == "versions" else [])),
        owner=contract.owner,
        freshness="each hour" if contract.layer == "bronze" else "at the end of each run",
        columns=tuple(
            Column(field.name, types[field.name], not field.nullable, contract.comments[field.name])
            for field in contract.schema
        ),
        readers=_readers(contract.table),
        retention_days=contract.retention_days,
        kind=contract.kind,
    )


def _of_model(entry: dict[str, Any], path: Path) -> Table:
    folder = path.parent.name
    layer = "gold" if "marts" in path.parts else "silver"
    name = entry["name"]
    book = read_rule_book(RULES / f"{layer}.{name}.yml")
    critical = [rule for rule in book.rules if rule.severity == "critical"]
    required = {rule.columns[0] for rule in critical if rule.check == "not_null"}
    key = next(rule.columns for rule in critical if rule.check == "unique")
    return Table(
        name=f"{layer}.{name}",
        text=_resolved(entry["description"]),
        key=key,
        owner=book.rules[0].owner,
        freshness=_FRESHNESS.get(folder, _HOURS),
        columns=tuple(
            Column(
                column["name"],
                book.types.get(column["name"]) or str(column["data_type"]).upper(),
                column["name"] in required,
                _resolved(column["description"]),
            )
            for column in entry["columns"]
        ),
        readers=_readers(name),
        example=entry.get("config", {}).get("meta", {}).get("example", "").strip(),
    )


@cache
def _documents() -> list[tuple[Path, dict[str, Any]]]:
    paths = sorted(_MODELS.rglob("*.yml"))
    return [(path, yaml.load(path.read_text(), yaml.CSafeLoader)) for path in paths]


def _models() -> Iterator[tuple[dict[str, Any], Path]]:
    for path, document in _documents():
        if "intermediate" not in path.parts:
            for entry in document.get("models", []):
                yield entry, path


@cache
def _docs() -> dict[str, str]:
    return dict(_DOC.findall((_MODELS / "docs.md").read_text()))


def _resolved(text: str) -> str:
    """Return a description as dbt renders it, on one line."""
    return " ".join(_USE.sub(lambda use: _docs()[use[1]], text).split())


def _readers(table: str) -> tuple[str, ...]:
    """Return who reads a model or a source's table: exposures by label, tables by name."""
    exposed = [
        entry["label"]
        for _, document in _documents()
        for entry in document.get("exposures", [])
        if table in _REF.findall(" ".join(entry["depends_on"]))
    ]
    return (*exposed, *_models_that_read(table))


def _models_that_read(table: str) -> Iterator[str]:
    """Yield the models whose SQL names the table; of an ephemeral one, those that read it."""
    is_named = re.compile(rf"(?:ref|source)\((?:'\w+', )?'{table}'\)")
    for path in sorted(_MODELS.rglob("*.sql")):
        if is_named.search(path.read_text()):
            if "intermediate" in path.parts:
                yield from _models_that_read(path.stem)
            else:
                yield path.stem
