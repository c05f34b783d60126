"""What a dbt materialization asks of the lake: the dict that a macro hands over, typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.relation import Relation

if TYPE_CHECKING:
    from collections.abc import Mapping

WHOLE, WINDOW = "all", "window"


@dataclass(frozen=True)
class Order:
    """One model's rows on their way into its table.

    Args:
        table: Where they go.
        source: Relation with the rows, as SQL.
        strategy: `all` (replace the table), `window` (replace the touched partitions), or how the
            rows change the table.
        parents: The tables that the model reads.
        model: dbt's id of the node.
        invocation_id: dbt's id of the invocation.
        partition_by: Partition columns of a new table.
        on_schema_change: dbt's mode.
        required: Columns that may hold no null.
        checks: Name to condition that each row must meet.
        comments: Column to its comment, None where comments are not persisted.
        description: The table's comment, None where it is not persisted.
        properties: Delta table properties.
        reads_itself: Whether the rows depend on the table, so that another writer's commit makes
            them stale.
        may_replace: Whether `all` may replace a table that is there; an incremental model's first
            may not.
        is_full_refresh: Whether the table is built anew; one that can't be read is then dropped.
        is_deferred: Whether parents may be other relations than their names say (`dbt --defer`).
        is_rewrite: Whether the rows are those of the version that the session shows, changed.
        partial: `empty` or `sample` where parents were read in part, else an empty text.
    """

    table: Relation
    source: str
    strategy: str | Rewrite
    parents: tuple[Relation, ...] = ()
    model: str = ""
    invocation_id: str = ""
    partition_by: tuple[str, ...] = ()
    on_schema_change: str = "ignore"
    required: tuple[str, ...] = ()
    checks: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] | None = None
    description: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    reads_itself: bool = False
    may_replace: bool = True
    is_full_refresh: bool = False
    partial: str = ""
    is_deferred: bool = False
    is_rewrite: bool = False

    @classmethod
    def parse(cls, table: Relation, config: Mapping[str, Any]) -> Order:
        """Read what the macro `lake_store` wrote."""
        return cls(
            table=table,
            source=config["source"],
            strategy=_strategy(config),
            parents=tuple(Relation(*parent) for parent in config["parents"]),
            model=config["model"],
            invocation_id=config["invocation_id"],
            partition_by=_texts(config["partition_by"]),
            on_schema_change=config["on_schema_change"],
            required=tuple(config["required"]),
            checks=dict(config["checks"]),
            comments=config["comments"],
            description=config["description"],
            properties={name: str(value) for name, value in config["properties"].items()},
            reads_itself=bool(config["reads_itself"]),
            may_replace=bool(config["may_replace"]),
            is_full_refresh=bool(config["is_full_refresh"]),
            partial=config["partial"] or "",
            is_deferred=bool(config["is_deferred"]),
        )


def _strategy(config: Mapping[str, Any]) -> str | Rewrite:
    name = config["strategy"]
    if name in (WHOLE, WINDOW):
        return str(name)
    updated = config.get("update")
    return Rewrite(
        strategy=name,
        keys=_texts(config.get("keys")),
        update=_texts(updated) if updated else None,
        exclude=_texts(config.get("exclude")),
        predicates=_texts(config.get("predicates")),
        event_time=config.get("event_time") or "",
        begin=str(config.get("begin") or ""),
        end=str(config.get("end") or ""),
        valid_to=config.get("valid_to") or "",
        current=config.get("current"),
    )


def _texts(value: object) -> tuple[str, ...]:
    """Return a text or a list of texts as a tuple; None is none."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value)  # type: ignore[attr-defined]  # a list from Jinja
