"""What a table says of itself beside its columns: comment, properties, check constraints."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deltalake import TableFeatures
from deltalake.exceptions import DeltaError

from include.chimera.lake.delta.constraints import constraints_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltalake import DeltaTable, Schema

logger = logging.getLogger(__name__)
_NTZ = "timestampNtz"


@dataclass(frozen=True)
class Details:
    """What a table is to say of itself.

    Args:
        partition_by: Partition columns.
        description: Comment, None to leave it as it is.
        properties: Delta table properties; others stay.
        checks: Check constraints, name to condition; others go.
    """

    partition_by: Sequence[str] = ()
    description: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)

    def are_met_by(self, table: DeltaTable) -> bool:
        """Tell whether the table says all this already."""
        metadata = table.metadata()
        return (
            metadata.partition_columns == list(self.partition_by)
            and self.description in (None, metadata.description or "")
            and self.properties.items() <= metadata.configuration.items()
            and constraints_of(metadata.configuration) == self.checks
        )


def describe_table(table: DeltaTable, details: Details) -> None:
    """Make an empty table's comment, properties and check constraints these, by several commits.

    A condition that delta-rs can't parse (it speaks another SQL than DuckDB) is still checked at
    each build of its model, and other writers don't know of it.
    """
    if details.description is not None:
        table.alter.set_table_description(details.description)
    if details.properties:
        table.alter.set_table_properties(dict(details.properties), raise_if_not_exists=False)
    for name in constraints_of(table.metadata().configuration):
        table.alter.drop_constraint(name)
    for name, condition in details.checks.items():
        try:
            table.alter.add_constraint({name: condition})
        except DeltaError:
            logger.warning("constraint %s is checked by dbt's builds only", name)


def needs_plain_timestamps(table: DeltaTable, schema: Schema) -> bool:
    """Tell whether a schema has timestamps without a zone, which the table may not hold yet."""
    has_them = "timestamp_ntz" in schema.to_json()
    return has_them and _NTZ not in (table.protocol().reader_features or [])


def allow_plain_timestamps(table: DeltaTable) -> None:
    """Let a table hold timestamps without a zone, which Delta knows as a table feature."""
    table.alter.add_feature(
        TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True
    )
