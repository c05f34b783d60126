"""Turn a source's rows into versions: the contract's types, a hash of the row, its partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import IS_DELETED, PARTITION, ROW_HASH
from include.chimera.lake.delta.scans import empty, live_rows
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store.duckdb_sessions import duckdb_type

if TYPE_CHECKING:
    from include.chimera.contracts import Contract


def typed(
    contract: Contract, carried: str = "", *, deleted: str = "false", rows: str = "source"
) -> str:
    """Return the DuckDB query that adds types and lineage columns to rows.

    Args:
        contract: Contract of a table of kind `versions` or `reference`.
        carried: One more column of the rows to keep unchanged.
        deleted: SQL that says of a row whether it is a tombstone.
        rows: What stands after `from`.
    """
    columns = ", ".join(
        f"cast({name} as {duckdb_type(contract.schema.field(name).type)}) as {name}"
        for name in contract.source_columns
    )
    for extra in (carried, "" if deleted == "false" else deleted):
        if extra:
            columns = f"{columns}, {extra}"
    return with_lineage(contract, f"select {columns} from {rows}", deleted=deleted, carried=carried)


def completed(contract: Contract, rows: str) -> str:
    """Return a query of rows with all source columns of the contract; what they lack is null.

    Args:
        contract: Contract of the table.
        rows: Query of the rows, with some of the columns.
    """
    nulls = ", ".join(
        f"cast(null as {duckdb_type(contract.schema.field(name).type)}) as {name}"
        for name in contract.source_columns
    )
    return f"({rows}) union all by name (select {nulls} where false)"


def with_first_times(contract: Contract) -> str:
    """Return a query of `source` with the `created_at` of a key's version in bronze, if any.

    A row's event hour must not change: models would keep it in both hours. A file's own time, or
    the end of a run that was resumed, does. Of a key that the rows have several times, all get the
    earliest. It reads `source` more than once.

    Args:
        contract: Contract of a table of kind `versions` with one key column.
    """
    (key,) = contract.key
    table = open_table(contract.name)
    held = empty(contract.schema) if table is None else live_rows(table, contract)
    return f"""
        with first as (
            select {key}, min(created_at) as created_at from source group by all
        ),
        held as (
            select {key}, created_at from ({held})
            where {key} in (select {key} from source)
            qualify row_number() over (
                partition by {key} order by updated_at desc, {ROW_HASH} desc
            ) = 1 and not {IS_DELETED}
        )
        select source.* replace (
            coalesce(held.created_at, first.created_at, source.created_at) as created_at
        )
        from source left join held using ({key}) left join first using ({key})
    """


def with_lineage(
    contract: Contract, rows: str, *, deleted: str = "false", carried: str = ""
) -> str:
    """Return a query that adds the lineage columns to rows with the contract's source columns.

    Args:
        contract: As in `typed`.
        rows: Query of the rows.
        deleted: As in `typed`.
        carried: As in `typed`.
    """
    lineage = f"{_row_hash(contract, deleted)} as {ROW_HASH}"
    if IS_DELETED in contract.schema.names:
        lineage += f", {deleted} as {IS_DELETED}"
    if contract.partition_by:
        lineage += f", strftime(updated_at, '%Y%m%dT%H') as {PARTITION}"
    if carried:
        lineage += f", {carried}"
    return f"select {', '.join(contract.source_columns)}, {lineage} from ({rows})"


def _row_hash(contract: Contract, deleted: str) -> str:
    """Return the SQL expression of a hash over all values of a row.

    The hashed text holds the values, then the length of each one that may contain any character
    (-1: null), so that two different rows never share a text. It takes a third of the time of JSON:
    0.8 s instead of 2.8 s for a million rows (2026-11-24).
    """
    values: list[str] = [] if deleted == "false" else [f"case when {deleted} then 'deleted' end"]
    lengths: list[str] = []
    for name in contract.source_columns:
        if name in contract.extras:  # null, it leaves no trace in the text
            text = f"cast({name} as varchar)"
            lengths.append(f"'{name}=' || strlen({text}) || ':' || {text}")
            continue
        kind = contract.schema.field(name).type
        if pa.types.is_timestamp(kind):
            values.append(f"coalesce(cast(epoch_us({name}) as varchar), '-')")
        elif pa.types.is_string(kind) or pa.types.is_list(kind):
            text = name if pa.types.is_string(kind) else f"cast(to_json({name}) as varchar)"
            values.append(text)
            lengths.append(f"coalesce(strlen({text}), -1)")
        else:
            values.append(f"coalesce(cast({name} as varchar), '-')")
    return f"md5(concat_ws('|', {', '.join((*values, *lengths))}))"
