"""A dbt materialization's request to the lake: the dict that a macro passes, typed.

Engines meet here: whichever wrote the rows, an order and its files become the same build.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.chimera.lake.dbt_plugin.strategies import Rewrite
from include.chimera.lake.delta.columns import delta_schema
from include.chimera.lake.staged.manifests import Build
from include.chimera.relation import Relation

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from include.chimera.lake.delta.lineage import Plan
    from include.chimera.lake.delta.parquet_files import DataFile
    from include.chimera.lake.delta.partitions import Partitions, Whole

WHOLE, WINDOW = "all", "window"


@dataclass(frozen=True)
class Order:
    """An order to write one model's rows to its table.

    Args:
        table: The model's table.
        source: Relation with the rows, as SQL.
        strategy: `all` (replace the table), `window` (replace the touched partitions), or a
            `Rewrite` (change rows).
        parents: The tables that the model reads.
        model: dbt's id of the node.
        invocation_id: dbt's id of the invocation.
        partition_by: Partition columns of a new table.
        on_schema_change: dbt's mode.
        required: Columns that may not be null.
        checks: Condition that each row must meet, by name.
        comments: Comment by column, None if comments are not persisted.
        description: The table's comment, None if it is not persisted.
        properties: Delta table properties.
        reads_itself: Whether the rows depend on the table, so that another writer's commit makes
            them stale.
        may_replace: Whether `all` may replace an existing table; an incremental model's first build
            may not.
        is_full_refresh: Whether to rebuild the table, which drops it if it can't be read.
        is_deferred: Whether parents may resolve to other relations than named (`dbt --defer`).
        is_rewrite: Whether the rows are a changed copy of the version that the session shows.
        partial: `empty` or `sample` if parents were read in part, else "".
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
        """Parse the dict that the macro `lake_store` passes."""
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

    def build(
        self,
        planned: Plan,
        files: list[DataFile],
        columns: pa.Schema,
        partition_by: list[str],
        replaced: Whole | Partitions,
    ) -> Build:
        """Return the build of the files that an engine wrote for this order.

        Args:
            planned: What the rows were computed from.
            files: The files, in the table's folder.
            columns: The rows' columns, in the model's order.
            partition_by: Those of them that the files are partitioned by.
            replaced: What of the table the files replace.
        """
        return Build(
            table=str(self.table),
            files=files,
            schema=delta_schema(columns, self.required, self.comments).to_json(),
            partition_by=partition_by,
            replaced=replaced,
            plan=planned,
            invocation_id=self.invocation_id,
            description=self.description,
            properties=self.properties,
            checks=self.checks,
            # If a parent may have changed anywhere, every partition is recomputed.
            may_replace=self.may_replace or self.strategy == WINDOW,
            # Its hours come from other parents than its marks name: the next build redoes them all.
            is_partial=bool(self.partial) or (self.is_deferred and self.strategy == WINDOW),
            is_rewrite=self.is_rewrite,
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
    """Return a text or a list of texts as a tuple; None gives ()."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value)  # type: ignore[attr-defined]  # a list from Jinja
