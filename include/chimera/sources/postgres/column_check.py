"""Check a source's columns against its contract before reading anything.

The contract's policy decides what a tolerable change does: `freeze` stops the table, `evolve` goes
on with a warning. An intolerable change always stops it: a required column is gone, or a column's
new type does not fit the contract's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.chimera.contracts import Contract

logger = logging.getLogger(__name__)

_ACCEPTED: dict[pa.DataType, tuple[str, ...]] = {
    pa.string(): ("text", "varchar", "bpchar", "uuid"),
    pa.int64(): ("int8", "int4", "int2"),
    pa.float64(): ("float8", "float4"),
    pa.bool_(): ("bool",),
    pa.timestamp("us", tz="UTC"): ("timestamptz",),
    pa.list_(pa.string()): ("_text", "_varchar"),
    pa.decimal128(18, 9): ("numeric",),
}


def check_columns(contract: Contract, found: Mapping[str, str], where: str) -> list[str]:
    """Return the contract's columns that the source has, in the contract's order.

    Args:
        contract: Contract of a table from PostgreSQL.
        found: PostgreSQL's type name by column of the source.
        where: Name of the source's table, for messages.

    Raises:
        ContractError: The columns changed in a way that the contract or its policy forbids; the
            message names them.
    """
    wanted = {name: contract.schema.field(name) for name in contract.source_columns}
    removed = [name for name in wanted if name not in found]
    added = sorted(set(found) - set(wanted))
    retyped = [
        f"{name} {found[name]}"
        for name, field in wanted.items()
        if name in found and found[name] not in _ACCEPTED[field.type]
    ]
    is_fatal = bool(retyped) or any(not wanted[name].nullable for name in removed)
    changes = [
        f"{verb}: {', '.join(names)}"
        for verb, names in (("added", added), ("removed", removed), ("retyped", retyped))
        if names
    ]
    if changes and (is_fatal or contract.on_change == "freeze"):
        raise ContractError(
            expected=f"the {len(wanted)} columns of the contract of {contract.name}",
            came="; ".join(changes),
            where=f"{where} in PostgreSQL; nothing was read or published",
            remedy="undo the change at the source, or change include/chimera/contracts.py and "
            "backfill from the hour of the change",
        )
    if changes:
        logger.warning(
            "%s in PostgreSQL is not as its contract says (%s): a removed column is read as null, "
            "an added one is not read until the contract names it",
            where,
            "; ".join(changes),
        )
    return [name for name in wanted if name in found]
