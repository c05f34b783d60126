"""Commit rows that passed their gate to a bronze table.

The counts must balance: rows read = published + refused + duplicates. This is checked before each
commit and recorded in its metadata. A duplicate is a row that the table already holds, or whose
hour a newer attempt has published.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.chimera.contracts import CONTRACTS, PARTITION, ROW_HASH, Contract
from include.chimera.errors import CountError, ShrinkError
from include.chimera.fault_points import fault_point
from include.chimera.lake.dead_letters.letters import replayed
from include.chimera.lake.delta.commits import Change, commit, run_metadata
from include.chimera.lake.delta.lineage import metadata_of
from include.chimera.lake.delta.partitions import Append, Partitions, Replaced, Whole
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import contract_table
from include.chimera.lake.publish.checksums import Content, hours_in, sum_of
from include.chimera.lake.publish.incoming_batch import Arrivals, hours_of
from include.chimera.lake.publish.verification import TOKEN, committed_counts, verify
from include.chimera.lake.staged.fencing_tokens import WHOLE, fence_mark, fence_of
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.store.duckdb_sessions import among, identifier
from include.chimera.lake.store.storage_errors import storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.lake.delta.parquet_files import DataFile
    from include.chimera.lake.staged.manifests import Batch
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
WATERMARK = "watermark"


@dataclass
class Publisher:
    """Publishes the good rows of one batch.

    Args:
        connection: DuckDB session that sees the staged files.
        batch: The staged batch.
        good: Query of the rows that passed, with the contract's columns.
        run: The DAG run.
        notes: Extra commit metadata, e.g. who accepted a failed gate.
    """

    connection: DuckDBPyConnection
    batch: Batch
    good: str
    run: Run
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start without refused rows or expected content."""
        self._rows = Arrivals(self.connection, self.batch, self.good, self.run)
        self._rows_refused = 0
        self._expected: dict[str, Content] = {}

    @property
    def contract(self) -> Contract:
        """The contract of the batch's table."""
        return CONTRACTS[self.batch.table]

    def publish(self, rows_refused: int) -> Publication:
        """Commit the good rows in one commit and verify it; commit nothing if nothing is new.

        Args:
            rows_refused: Rows of the batch that went to the dead letters, including those that
                could not be parsed.

        Raises:
            CountError: The row counts don't balance; nothing is committed.
            ShrinkError: An hour would lose rows and the batch does not allow it.
            CommitConflictError: Every attempt lost to another writer.
            VerificationError: The commit differs from what was staged.
        """
        name = self.contract.name
        with storage_errors(f"publishing {name}"):
            self._rows_refused = rows_refused
            self._check_law(self._rows.count)
            return self._publish(name)

    def _publish(self, name: str) -> Publication:
        decide: Callable[[DeltaTable], Change | None] = getattr(self, f"_{self.contract.kind}")
        table, change = commit(name, lambda: contract_table(name), decide)
        fault_point("publish.committed")
        if change is not None:
            version = verify(
                self.connection,
                table,
                name,
                token=self.batch.token,
                change=change,
                expected=self._expected,
            )
            published = int(change.metadata["rows_published"])
        else:
            # If an attempt died after its commit, its retry has nothing new: report that commit.
            found = committed_counts(table, name, self.batch.token)
            version = found.version if found else table.version()
            published = (found.rows_published or 0) if found else 0
        fault_point("publish.verified")
        duplicates = self._rows.count - published
        read, refused = self.batch.rows_read, self._rows_refused
        return Publication(name, read, published, refused, duplicates, version, self.batch.token)

    def _check_law(self, published: int) -> None:
        good, refused = self._rows.count, self._rows_refused
        if self.batch.rows_read != good + refused or published > good:
            raise CountError(
                expected=f"{self.batch.rows_read} rows read = published + refused + duplicates",
                came=f"{published} published, {refused} refused, {good} passed",
                where=f"table {self.contract.name}, run {self.run.run_id}",
                remedy="clear the extract task; if it persists, two tasks stage the same batch",
            )

    def _versions(self, table: DeltaTable) -> Change | None:
        """Append the row versions that the table does not hold yet."""
        key = ", ".join(identifier(column) for column in (*self.contract.key, ROW_HASH))
        hours = hours_in(self.connection, self.good)
        repeated = self._rows.repeated_hours()
        held = {values[PARTITION] for values in table.partitions()}
        # For an hour that the table lacks and that repeats no row, the staged files can be copied.
        files = self._rows.adopt({*hours}.difference(held, repeated))
        adopted = hours_of(files)
        others = [hour for hour in hours if hour not in adopted]
        known = f"{scan(table, self.contract.name)} where {among(PARTITION, others)}"
        good = f"from ({self.good}) where {among(PARTITION, others)}"
        if repeated:
            # Only if needed, as `distinct on` holds all rows in memory.
            good = f"select distinct on ({key}) * from ({good})"
        new = f"from ({good}) anti join ({known}) using ({key})"
        files += self._rows.write(new) if others else []
        marks = self._watermark(table)
        if not files and not marks:
            return None
        arrived = sorted(hours_of(files))
        before = self._rows.content(f"{known} and {among(PARTITION, arrived)}")
        added = f"from ({self.good}) where {among(PARTITION, sorted(adopted))}"
        self._expected = sum_of(before, self._rows.content(f"{added} union all by name ({new})"))
        touched = self._rows.touched_hours(files)
        return self._change(files, touched, arrived, replaced=Append(), marks=marks)

    def _events(self, table: DeltaTable) -> Change | None:
        """Replace the batch's hours that changed, unless a newer attempt has published them.

        An addition has read no hour: it sets no fence, and neither gives way to newer attempts nor
        keeps older ones from publishing what they read.
        """
        token, name, is_addition = self.batch.token, self.contract.name, self.batch.is_addition
        hours = self.batch.hours
        if not is_addition:
            hours = [hour for hour in hours if fence_of(table, hour) <= token]
        if len(hours) < len(self.batch.hours):
            logger.warning(
                "a newer attempt published %s of %s hours of %s: left out",
                len(self.batch.hours) - len(hours),
                len(self.batch.hours),
                name,
            )
        live_rows = f"{scan(table, name)} where {among(PARTITION, hours)}"
        good = self._with_live(live_rows) if is_addition else self._with_replayed(live_rows)
        live, staged = self._rows.content(live_rows), self._rows.content(good)
        changed = [hour for hour in hours if staged.get(hour) != live.get(hour)]
        self._guard_against_shrinking(changed, live, staged)
        if not changed:
            return None
        files = self._rows.adopt(changed) if good is self.good else []
        adopted = hours_of(files)
        others = [hour for hour in changed if hour not in adopted]
        if others:
            files += self._rows.write(f"from ({good}) where {among(PARTITION, others)}")
        self._expected = {hour: staged.get(hour, Content()) for hour in changed}
        first = [hour for hour in changed if hour not in live]
        again = among(PARTITION, [hour for hour in changed if hour in live])
        published = sum(self._expected[hour].rows for hour in first) + self._rows.new_among(
            f"from ({good}) where {again}", f"from ({live_rows}) where {again}"
        )
        return self._change(
            files,
            changed,
            changed,
            replaced=Partitions(PARTITION, tuple(changed)),
            fenced=() if is_addition else changed,
            published=published,
        )

    def _reference(self, table: DeltaTable) -> Change | None:
        """Replace the whole table if it changed, unless a newer attempt has published it."""
        if fence_of(table, WHOLE) > self.batch.token:
            logger.warning("a newer attempt published %s: left as it is", self.contract.name)
            return None
        whole = f"select *, '' as {PARTITION} from ({{}})"
        live = self._rows.content(whole.format(scan(table, self.contract.name)))
        self._expected = self._rows.content(whole.format(self.good))
        if live == self._expected:
            return None
        files = self._rows.write(self.good)
        published = self._rows.new_among(self.good, scan(table, self.contract.name))
        return self._change(files, (), (), replaced=Whole(), fenced=[WHOLE], published=published)

    def _with_live(self, live: str) -> str:
        key = ", ".join(identifier(column) for column in self.contract.key)
        return f"({live}) union all by name (from ({self.good}) anti join ({live}) using ({key}))"

    def _with_replayed(self, live: str) -> str:
        """Add the rows that a replay has published and the batch lacks.

        A line far from the hour of its file comes by a replay alone: whoever reads its own hour
        anew does not find it there.
        """
        key = ", ".join(identifier(column) for column in self.contract.key)
        gone = f"from ({live}) anti join ({self.good}) using ({key})"
        if not self.connection.execute(f"select 1 from ({gone}) limit 1").fetchone():
            return self.good
        kept = replayed(self.contract.name, gone)
        if not self.connection.execute(f"select 1 from ({kept}) limit 1").fetchone():
            return self.good
        return f"({self.good}) union all by name ({kept})"

    def _guard_against_shrinking(
        self, changed: list[str], live: dict[str, Content], staged: dict[str, Content]
    ) -> None:
        for hour in changed:
            before, after = (found.get(hour, Content()).rows for found in (live, staged))
            if after < before and not self.batch.allow_shrink:
                raise ShrinkError(
                    expected=f"at least the {before} rows that the hour holds",
                    came=f"{after} rows",
                    where=f"table {self.contract.name}, hour {hour}",
                    remedy="restore the source's files, or trigger with allow_shrink=true",
                )

    def _watermark(self, table: DeltaTable) -> dict[str, int]:
        """Return the mark to set, empty if the watermark would not advance."""
        mark, current = self.batch.watermark, table.transaction_version(WATERMARK)
        if mark is None or not self.run.moves_watermark:
            return {}
        return {WATERMARK: mark} if current is None or mark > current else {}

    def _change(  # noqa: PLR0913 - the parts of a change
        self,
        files: list[DataFile],
        touched: Iterable[str],
        arrived: Iterable[str],
        *,
        replaced: Replaced,
        marks: dict[str, int] | None = None,
        fenced: Iterable[str] = (),
        published: int | None = None,
    ) -> Change:
        fault_point("publish.files_written")
        written = sum(file.rows for file in files)
        published = written if published is None else published
        self._check_law(published)
        counts = {
            "rows_read": self.batch.rows_read,
            "rows_published": published,
            "rows_refused": self._rows_refused,
            "rows_duplicate": self._rows.count - published,
            TOKEN: self.batch.token,
        }
        return Change(
            files,
            replaced,
            marks=marks or {},
            fences={fence_mark(hour): self.batch.token for hour in fenced},
            metadata={
                **run_metadata(self.run),
                **metadata_of(touched, arrived),
                **{name: str(count) for name, count in counts.items()},
                **self.notes,
            },
        )
