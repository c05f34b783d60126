"""Build the SQL that reads a contract's rows from PostgreSQL and casts them to its types.

Predicates in PostgreSQL find the values that the lake's types can't hold, so that such a row
becomes a dead letter instead of a rounded number or a failed batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import PARTITION
from include.chimera.lake.dead_letters.letters import UNKNOWN_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.contracts import Contract

# DuckDB processes 2,048 rows at once: 1,500 texts of 1 MB, or one of 300 MB, exhaust memory and
# fail their whole table (2026-11-28). A letter's payload has the same limit.
MAX_VALUE_BYTES = 64 * 1024
_KEY_CHARACTERS = 200  # of a key in a letter's coordinates


def selection(contract: Contract, present: list[str], rows: str) -> str:
    """Return the PostgreSQL query of the contract's columns; missing ones are null.

    Types that Arrow lacks (uuid, numeric) are read as text.

    Args:
        contract: Contract of a table from PostgreSQL.
        present: The columns that the source has.
        rows: What stands after `from`.
    """
    return f"select {', '.join(_expressions(contract, present))} from {rows}"


def _expressions(contract: Contract, present: list[str]) -> Iterator[str]:
    for name in contract.source_columns:
        kind = contract.schema.field(name).type
        if name not in present:
            yield f"null::text as {name}"
        elif pa.types.is_string(kind) or pa.types.is_decimal(kind):
            yield f"{name}::text as {name}"
        else:
            yield name


def invisible() -> str:
    """Return the PostgreSQL predicate of rows that no window can see; it can use an index."""
    return "(updated_at is null or updated_at in ('infinity', '-infinity'))"


def unfit(contract: Contract, present: list[str]) -> str:
    """Return the PostgreSQL predicate of rows with a value that the contract's type can't hold."""
    found = [predicate for _, predicate in _misfits(contract, present)]
    return " or ".join(f"coalesce({predicate}, false)" for predicate in found) or "false"


def _misfits(contract: Contract, present: list[str]) -> Iterator[tuple[str, str]]:
    """Yield reason and predicate of the values that PostgreSQL can store and the lake can't."""
    yield from ((f"{name}_too_long", long) for name, _, long in _lengths(contract, present))
    for name in contract.source_columns:
        kind = contract.schema.field(name).type
        if name not in present:
            continue
        if pa.types.is_timestamp(kind):
            low, high = "'0001-01-02 00:00:00+00'", "'9999-12-31 00:00:00+00'"
            yield f"{name}_out_of_range", f"{name} < {low} or {name} >= {high}"
        elif pa.types.is_decimal(kind):
            too_large = f"abs({name}) >= 1e{kind.precision - kind.scale}"
            too_fine = f"{name} <> round({name}, {kind.scale})"
            yield f"{name}_not_representable", f"{name} = 'NaN' or {too_large} or {too_fine}"
        elif pa.types.is_list(kind):
            # The lake's lists have one dimension and no custom lower bound; an empty array has
            # neither.
            yield (
                f"{name}_not_representable",
                f"array_ndims({name}) > 1 or array_lower({name}, 1) <> 1",
            )


def _lengths(contract: Contract, present: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each column of unbounded length, with SQL for its length in bytes and for "too long".

    A text's length is known without reading it. An array's is not, so it is computed only for one
    whose stored size is large; compression makes a value at most 255 times smaller.
    """
    for name in present:
        kind = contract.schema.field(name).type
        if pa.types.is_string(kind):
            length = f"octet_length({name}::text)"
            yield name, length, f"{length} > {MAX_VALUE_BYTES}"
        elif pa.types.is_list(kind):
            stored, length = f"pg_column_size({name})", f"octet_length(array_send({name}))"
            is_vast = f"{stored} > {MAX_VALUE_BYTES}"
            may_be = f"{stored} > {MAX_VALUE_BYTES // 256} then {length} > {MAX_VALUE_BYTES}"
            length = f"case when {is_vast} then {stored} else {length} end"
            yield name, length, f"case when {is_vast} then true when {may_be} end"


def refusals(contract: Contract, present: list[str], rows: str, condition: str) -> str:
    """Return the PostgreSQL query of refused records: reason, coordinates, payload, hour (UTC).

    The payload is the row's columns of the contract and no others, or the lengths of its values if
    one is too long.
    """
    cases = [("updated_at_null", "updated_at is null"), *_misfits(contract, present)]
    reasons = " ".join(f"when {predicate} then '{reason}'" for reason, predicate in cases)
    keys = ", ".join(f"'{name}', left({name}::text, {_KEY_CHARACTERS})" for name in contract.key)
    lengths = list(_lengths(contract, present))
    too_long = " or ".join(f"coalesce({long}, false)" for _, _, long in lengths) or "false"
    sizes = ", ".join(f"'{name}_bytes', {length}" for name, length, _ in lengths)
    payload = (
        f"case when {too_long} then json_build_object({sizes}) else row_to_json(source) end::text"
    )
    event = contract.event_time or "updated_at"
    hour = f"to_char({event} at time zone 'UTC', 'YYYYMMDD\"T\"HH24')"
    fits = f"{event} >= '0001-01-02 00:00:00+00' and {event} < '9999-12-31 00:00:00+00'"
    return (
        f"select case {reasons} end as reason, json_build_object({keys})::text as coordinates, "
        f"convert_to({payload}, 'UTF8') as payload, "
        f"case when {fits} then {hour} else '{UNKNOWN_HOUR}' end as {PARTITION} "
        f"from (select {', '.join(present)} from {rows}) as source "
        f"where {condition}"
    )
