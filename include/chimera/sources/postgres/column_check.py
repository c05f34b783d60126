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
    removed = [name for name in wanted if name not in found and name not in contract.extras]
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


def check_query_columns(contract: Contract, found: Mapping[str, str], file: str) -> list[str]:
    """Return the contract's columns that a profile's query has, in the contract's order.

    A column that it leaves out is one that the platform does not have, and read as null.

    Args:
        contract: Contract of a table from PostgreSQL.
        found: PostgreSQL's type name by column of the query.
        file: The query's file, for messages.

    Raises:
        ContractError: A required column is missing, another is not the contract's, or a type does
            not fit; the message names them.
    """
    wanted = {name: contract.schema.field(name) for name in contract.source_columns}
    faults = [
        *(
            f"{name} is missing"
            for name in wanted
            if name not in found and not wanted[name].nullable
        ),
        *(f"{name} is not the contract's" for name in found if name not in wanted),
        *(
            f"{name} is {kind}, not {' or '.join(_ACCEPTED[wanted[name].type])}"
            for name, kind in found.items()
            if name in wanted and kind not in _ACCEPTED[wanted[name].type]
        ),
    ]
    if faults:
        raise ContractError(
            expected=f"columns of the contract of {contract.name}",
            came="; ".join(faults),
            where=f"{file} of the profile, run in PostgreSQL; nothing was read or published",
            remedy="correct the query, or cast its columns",
        )
    return [name for name in wanted if name in found]
