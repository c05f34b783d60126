"""What a table says of itself beside its columns: comment, properties, check constraints."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from deltalake import CommitProperties, TableFeatures
from deltalake.exceptions import DeltaError

from include.chimera.lake.checks import constraints_of
from include.chimera.lake.lineage import metadata_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

logger = logging.getLogger(__name__)
_NTZ = "timestampNtz"


def _nothing_touched() -> CommitProperties:
    return CommitProperties(custom_metadata=metadata_of((), ()))


def describe_table(
    table: DeltaTable,
    description: str | None,
    properties: Mapping[str, str],
    checks: Mapping[str, str],
) -> None:
    """Make a table's comment, properties and check constraints these; commits only differences.

    A condition that delta-rs can't parse (it speaks another SQL than DuckDB) is still checked at
    each build of its model, and other writers don't know of it.
    """
    metadata = table.metadata()
    if description is not None and description != (metadata.description or ""):
        table.alter.set_table_description(description, commit_properties=_nothing_touched())
    other = {
        name: value for name, value in properties.items()
        if metadata.configuration.get(name) != value
    }  # fmt: skip
    if other:
        table.alter.set_table_properties(
            other, raise_if_not_exists=False, commit_properties=_nothing_touched()
        )
    known = constraints_of(metadata.configuration)
    for name in known.keys() - checks.keys():
        table.alter.drop_constraint(name, commit_properties=_nothing_touched())
    for name, condition in checks.items():
        if known.get(name) == condition:
            continue
        try:
            if name in known:
                table.alter.drop_constraint(name, commit_properties=_nothing_touched())
            table.alter.add_constraint({name: condition}, commit_properties=_nothing_touched())
        except DeltaError:
            logger.warning("constraint %s is checked by dbt's builds only", name)


def allow_plain_timestamps(table: DeltaTable) -> None:
    """Let a table hold timestamps without a zone, which Delta knows as a table feature."""
    if _NTZ not in (table.protocol().reader_features or []):
        table.alter.add_feature(
            TableFeatures.TimestampWithoutTimezone,
            allow_protocol_versions_increase=True,
            commit_properties=_nothing_touched(),
        )
