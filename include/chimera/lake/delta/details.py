"""A table's metadata besides its columns: properties, check constraints, partitioning."""

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
    """The metadata that a table should have.

    Args:
        partition_by: Partition columns.
        properties: Delta table properties to set; others stay.
        checks: Check constraints, condition by name; others are dropped.
    """

    partition_by: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)

    def are_met_by(self, table: DeltaTable) -> bool:
        """Does the table already have this metadata?"""
        metadata = table.metadata()
        return (
            metadata.partition_columns == list(self.partition_by)
            and self.properties.items() <= metadata.configuration.items()
            and constraints_of(metadata.configuration) == self.checks
        )


def describe_table(table: DeltaTable, details: Details) -> None:
    """Set an empty table's properties and check constraints, in several commits.

    A condition that delta-rs can't parse (its SQL dialect is not DuckDB's) is still checked by each
    build of its model, but not by other writers.
    """
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
    """Does the schema have timestamps without a zone, which the table does not support yet?"""
    has_them = "timestamp_ntz" in schema.to_json()
    return has_them and _NTZ not in (table.protocol().reader_features or [])


def allow_plain_timestamps(table: DeltaTable) -> None:
    """Enable the Delta table feature for timestamps without a zone."""
    table.alter.add_feature(
        TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True
    )
