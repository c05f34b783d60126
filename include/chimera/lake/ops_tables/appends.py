"""Append rows to the ops tables, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import PARTITION, Contract
from include.chimera.lake.delta.commits import Change, commit, run_metadata
from include.chimera.lake.delta.lineage import metadata_of
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import contract_table
from include.chimera.lake.store.duckdb_sessions import among, connect, identifier
from include.chimera.lake.store.places import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltalake import DeltaTable

    from include.chimera.window import Run


def append_rows(contract: Contract, rows: Sequence[Mapping[str, object]], run: Run) -> int:
    """Append rows to a table of kind `log`; return how many.

    Rows whose key is already in the table are left out, so a retried task adds nothing. For a table
    partitioned by hour, only the rows' own partitions are read to check.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
    """
    if not rows:
        return 0
    batch = pa.Table.from_pylist(list(rows), schema=contract.schema)
    hours = sorted({str(row[PARTITION]) for row in rows}) if contract.partition_by else []
    with connect() as connection:
        connection.register("batch", batch)

        def decide(table: DeltaTable) -> Change | None:
            key = ", ".join(identifier(name) for name in contract.key)
            known = scan(table, contract.name)
            if hours:
                known = f"{known} where {among(PARTITION, hours)}"
            new = f"from batch anti join ({known}) using ({key})"
            files = write_files(
                connection, new, folder_of(contract.name), contract.schema, contract.partition_by
            )
            metadata = {**run_metadata(run), **metadata_of(hours, hours)}
            return Change(files, metadata=metadata) if files else None

        _, change = commit(contract.name, lambda: contract_table(contract.name), decide)
    return sum(file.rows for file in change.files) if change else 0
