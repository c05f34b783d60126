"""The good rows of a batch: their content, and copying or writing them as files of the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS, PARTITION, ROW_HASH, Contract
from include.chimera.lake.delta.parquet_files import copy_files, write_files
from include.chimera.lake.delta.scans import read_files
from include.chimera.lake.publish.checksums import Content, content_by_hour, hours_in
from include.chimera.lake.publish.new_rows import count_new
from include.chimera.lake.staged.manifests import attempt_folder
from include.chimera.lake.store.duckdb_sessions import identifier
from include.chimera.lake.store.places import folder_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.delta.parquet_files import DataFile
    from include.chimera.lake.staged.manifests import Batch
    from include.chimera.window import Run


@dataclass(frozen=True)
class Arrivals:
    """The rows that passed their gate, to be moved from the staged files to the table's folder.

    Args:
        connection: DuckDB session that sees the staged files.
        batch: The staged batch.
        good: Query of the rows that passed, with the contract's columns.
        run: The DAG run that staged them.
    """

    connection: DuckDBPyConnection
    batch: Batch
    good: str
    run: Run

    @property
    def contract(self) -> Contract:
        """The contract of the batch's table."""
        return CONTRACTS[self.batch.table]

    @cached_property
    def count(self) -> int:
        """How many rows passed."""
        row = self.connection.execute(f"select count(*) from ({self.good})").fetchone()
        return int(row[0]) if row else 0

    def content(self, query: str) -> dict[str, Content]:
        """Return the content of each hour of a query with the contract's columns."""
        return content_by_hour(self.connection, query, self.contract.schema.names)

    def new_among(self, query: str, live: str) -> int:
        """Return how many rows of a query are not among the live ones."""
        return count_new(self.connection, query, live, self.contract.schema.names)

    def repeated_hours(self) -> list[str]:
        """Return the hours that repeat a row; holds a hash of each row in memory."""
        if self.batch.is_distinct:
            return []
        query = (
            f"select {PARTITION} from ({self.good}) "
            f"group by {PARTITION}, hash({ROW_HASH}) having count(*) > 1"
        )
        return hours_in(self.connection, query)

    def touched_hours(self, files: Collection[DataFile]) -> list[str]:
        """Return the event hours of the rows in the table's files."""
        contract = self.contract
        written = read_files(
            folder_of(contract.name), [file.path for file in files], contract.schema
        )
        event = identifier(str(contract.event_time))
        hours = f"select distinct date_trunc('hour', {event}) as hour from ({written})"
        return hours_in(
            self.connection, f"select strftime(hour, '%Y%m%dT%H') as {PARTITION} from ({hours})"
        )

    def adopt(self, hours: Collection[str]) -> list[DataFile]:
        """Copy the staged files of these hours to the table's folder; none if rows were refused.

        The gate has judged these very files, and rewriting their rows took longer than all the rest
        of publishing.
        """
        staged = self.batch.files
        if self.count != sum(file.rows for file in staged):
            return []
        chosen = [file for file in staged if file.partition.get(PARTITION) in hours]
        source = attempt_folder(self.run, self.batch)
        return copy_files(chosen, source, folder_of(self.contract.name))

    def write(self, query: str) -> list[DataFile]:
        """Write a query's rows as files in the table's folder."""
        contract = self.contract
        return write_files(
            self.connection, query, folder_of(contract.name), contract.schema, contract.partition_by
        )


def hours_of(files: Iterable[DataFile]) -> set[str]:
    """Return the files' partitions."""
    return {str(file.partition[PARTITION]) for file in files}
