"""How rows that passed their gate become part of a bronze table.

The law, checked at each publish: rows read = published + refused + duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS, PARTITION, Contract
from include.chimera.errors import CountError, ShrinkError
from include.chimera.lake.commits import Change, commit, run_metadata
from include.chimera.lake.engine import among, identifier
from include.chimera.lake.files import write_files
from include.chimera.lake.lineage import metadata_of
from include.chimera.lake.relations import read_files, scan
from include.chimera.lake.tables import contract_table, folder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.lake.files import DataFile
    from include.chimera.lake.stage import Batch
    from include.chimera.window import Run

WATERMARK = "watermark"


@dataclass(frozen=True)
class Publication:
    """What became of the rows of one batch, and the table's version afterwards."""

    table: str
    rows_read: int
    rows_published: int
    rows_refused: int
    rows_duplicate: int
    version: int


@dataclass(frozen=True)
class Publisher:
    """Publishes the good rows of one batch.

    Args:
        connection: DuckDB session that sees the staged files.
        batch: What was staged.
        good: Query of the rows that passed, with the contract's columns.
        run: The DAG run.
        notes: More metadata for the commit, e.g. who accepted a failed gate.
    """

    connection: DuckDBPyConnection
    batch: Batch
    good: str
    run: Run
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        """The contract of the batch's table."""
        return CONTRACTS[self.batch.table]

    def publish(self, rows_refused: int) -> Publication:
        """Commit the good rows, at most one commit, none where nothing is new.

        Args:
            rows_refused: Rows of the batch that went to the dead letters, the ones that could not
                be parsed included.

        Raises:
            CountError: The law does not hold.
            ShrinkError: An hour would lose rows and the batch does not allow it.
            CommitConflictError: Other writers won again and again.
        """
        name = self.contract.name
        decide: Callable[[DeltaTable], Change | None] = getattr(self, f"_{self.contract.kind}")
        table, change = commit(name, lambda: contract_table(name), decide)
        good = self._count(self.good)
        published = sum(file.rows for file in change.files) if change else 0
        if self.batch.rows_read != good + rows_refused or published > good:
            raise CountError(
                expected=f"{self.batch.rows_read} rows read = published + refused + duplicates",
                came=f"{published} published, {rows_refused} refused, {good} passed",
                where=f"table {name}, run {self.run.run_id}",
                remedy="clear the extract task; if it persists, two tasks stage the same batch",
            )
        return Publication(
            name, self.batch.rows_read, published, rows_refused, good - published, table.version()
        )

    def _versions(self, table: DeltaTable) -> Change | None:
        """Add the versions of rows that the table does not hold yet: a set that only grows."""
        key = ", ".join(identifier(column) for column in (*self.contract.key, "_row_hash"))
        hours = self._partitions(self.good)
        known = f"{scan(table, self.contract.name)} where {among(PARTITION, hours)}"
        files = self._write(
            f"from (select distinct on ({key}) * from ({self.good})) "
            f"anti join ({known}) using ({key})"
        )
        marks = self._watermark(table)
        if not files and not marks:
            return None
        event = identifier(str(self.contract.event_time))
        written = read_files(
            folder_of(self.contract.name), [file.path for file in files], self.contract.schema
        )
        touched = self._partitions(
            f"select strftime({event}, '%Y%m%dT%H') as {PARTITION} from ({written})"
        )
        arrived = {str(file.partition[PARTITION]) for file in files}
        return Change(files, marks=marks, metadata=self._metadata(touched, arrived))

    def _events(self, table: DeltaTable) -> Change | None:
        """Replace the batch's hours whose content changed."""
        hours = self.batch.hours
        live = self._content(f"{scan(table, self.contract.name)} where {among(PARTITION, hours)}")
        staged = self._content(self.good)
        changed = [hour for hour in hours if staged.get(hour) != live.get(hour)]
        for hour in changed:
            before, after = live.get(hour, (0, 0))[0], staged.get(hour, (0, 0))[0]
            if after < before and not self.batch.allow_shrink:
                raise ShrinkError(
                    expected=f"at least the {before} rows that the hour holds",
                    came=f"{after} rows",
                    where=f"table {self.contract.name}, hour {hour}",
                    remedy="restore the source's files, or trigger with allow_shrink=true",
                )
        if not changed:
            return None
        files = self._write(f"from ({self.good}) where {among(PARTITION, changed)}")
        return Change(files, (PARTITION, changed), metadata=self._metadata(changed, changed))

    def _reference(self, table: DeltaTable) -> Change | None:
        """Replace the whole table where its content changed."""
        whole = f"select *, '' as {PARTITION} from ({{}})"
        live = self._content(whole.format(scan(table, self.contract.name)))
        if live == self._content(whole.format(self.good)):
            return None
        return Change(self._write(self.good), "all", metadata=self._metadata((), ()))

    def _watermark(self, table: DeltaTable) -> dict[str, int]:
        """Return the mark to set, none where the watermark would not advance."""
        mark, current = self.batch.watermark, table.transaction_version(WATERMARK)
        if mark is None or not self.run.moves_watermark:
            return {}
        return {WATERMARK: mark} if current is None or mark > current else {}

    def _metadata(
        self, touched: list[str] | tuple[()], arrived: set[str] | list[str] | tuple[()]
    ) -> dict[str, str]:
        return {
            **run_metadata(self.run),
            **metadata_of(touched, arrived),
            "rows_read": str(self.batch.rows_read),
            **self.notes,
        }

    def _write(self, query: str) -> list[DataFile]:
        contract = self.contract
        return write_files(
            self.connection, query, folder_of(contract.name), contract.schema, contract.partition_by
        )

    def _content(self, query: str) -> dict[str, tuple[int, int]]:
        """Return each hour's row count and an order-free checksum of its rows."""
        columns = ", ".join(
            identifier(name) for name in self.contract.schema.names if name != PARTITION
        )
        rows = self.connection.execute(
            f"select {PARTITION}, count(*), cast(sum(cast(hash({columns}) as hugeint)) as hugeint) "
            f"from ({query}) group by {PARTITION}"
        ).fetchall()
        return {hour: (count, checksum) for hour, count, checksum in rows}

    def _partitions(self, query: str) -> list[str]:
        rows = self.connection.execute(f"select distinct {PARTITION} from ({query})").fetchall()
        return sorted(hour for (hour,) in rows)

    def _count(self, query: str) -> int:
        row = self.connection.execute(f"select count(*) from ({query})").fetchone()
        return int(row[0]) if row else 0
