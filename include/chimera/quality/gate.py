"""What stands before and behind a gate: staged rows in, a commit out, records of both."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import duckdb

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import ContractError, GateFailedError, StageMissingError, visible
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.scans import empty
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.bronze_publisher import Publication
from include.chimera.lake.publish.model_builds import commit_build
from include.chimera.lake.publish.new_rows import rows_brought
from include.chimera.lake.publish.stop_switch import require_publishing
from include.chimera.lake.staged.manifests import (
    PUBLICATION,
    VERDICT,
    load_batch,
    load_build,
    write_record,
)
from include.chimera.lake.staged.stage_rows import check_files
from include.chimera.lake.store.duckdb_sessions import connect, session_config
from include.chimera.lake.store.storage_errors import translate
from include.chimera.quality.acceptance import find_acceptance
from include.chimera.quality.batches import staged_batch, window_and_keys
from include.chimera.quality.bronze_gate import publish_rows
from include.chimera.quality.gx.checkpoint import (
    OUTAGES,
    GatedCheckpoint,
    gate_database,
    gx_context,
    outage,
)
from include.chimera.quality.gx.data_docs import keep_result
from include.chimera.quality.rules.book import RuleBook, rule_book
from include.chimera.quality.rules.good_and_bad_rows import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection
    from great_expectations.data_context import FileDataContext

    from include.chimera.lake.staged.manifests import Batch
    from include.chimera.quality.verdict import Verdict
    from include.chimera.window import Run

logger = logging.getLogger(__name__)


@dataclass
class Gate:
    """One table's gate in one run.

    Args:
        table: `<layer>.<table>`.
        run: The DAG run.
        connection: DuckDB session that sees the staged files.
        book: The table's rules.
        rows: Query of the staged rows.
        database: The file that GX reads.
        batch: Bronze's staged attempt, the same one from the first rule to the commit.
    """

    table: str
    run: Run
    connection: DuckDBPyConnection
    book: RuleBook
    rows: str
    database: Path
    batch: Batch | None = None
    started: float = field(default_factory=time.monotonic)
    checked: GatedCheckpoint | None = None

    def context(self) -> FileDataContext:
        """Return the GX project over the staged rows."""
        return gx_context(self.database)

    def checkpoint(self, context: FileDataContext) -> GatedCheckpoint:
        """Return the table's checkpoint."""
        fault_point("audit.start")
        unparsed = self.batch.rows_unparsed if self.batch else 0
        staged = self.batch or load_build(self.run, self.table)
        self.checked = GatedCheckpoint(
            context.checkpoints.get(self.table),
            self.table,
            sum(file.rows for file in staged.files) + unparsed,
            unparsed,
            self.book.min_pass_ratio,
            accepted=self._accepted_by,
            examples=self._examples,
            started=self.started,
        )
        return self.checked

    def publish(self) -> None:
        """Commit what passed and record the verdict; to be called once the checkpoint has run.

        Raises:
            GateFailedError: The verdict forbids it; nothing is committed.
            PublishingStoppedError: A person has stopped publishing; nothing is committed.
            StageMissingError: The checkpoint has not run.
            LakeError: The lake can't be read or written.
            ConversionError: A value does not fit its column.
            GateOutageError: DuckDB failed.
        """
        verdict = self.checked.verdict if self.checked else None
        if self.checked is None or verdict is None:
            raise StageMissingError(
                expected="a verdict",
                came="none: the checkpoint has not run",
                where=f"gate of {self.table}, run {self.run.run_id}",
                remedy="clear the gate's task",
            )
        write_record(self.run, self.table, VERDICT, self._record(verdict))
        keep_result(self.checked)
        if not verdict.success:
            raise self._refusal(verdict)
        require_publishing(f"gate of {self.table}, run {self.run.run_id}")
        with judging(self.table, self._retyped):
            publication = (
                publish_rows(
                    self.connection,
                    self.batch,
                    self.run,
                    rows_refused=verdict.rows_refused,
                    notes=self._notes(verdict),
                )
                if self.batch
                else self._publish_build()
            )
        write_record(self.run, self.table, PUBLICATION, asdict(publication))
        fault_point("publish.recorded")
        logger.info("gate of %s: %s, %s", self.table, verdict.outcome, publication)

    def _refusal(self, verdict: Verdict) -> GateFailedError:
        remedies = {rule.rule_id: rule.remedy for rule in self.book.rules}
        first = next((remedies[name] for name in verdict.failed_rules if name in remedies), "")
        return GateFailedError(
            expected=f"no broken critical rule, {verdict.min_pass_ratio:.0%} of the rows good",
            came=f"{', '.join(verdict.failed_rules)}; "
            f"{verdict.rows_refused} of {verdict.rows} rows bad",
            where=f"gate of {self.table}, run {self.run.run_id}; the live version is unchanged",
            remedy=f"{first} The staged files: python -m include.chimera staged {self.table} "
            f"--run {self.run.run_id}".strip(),
        )

    def _record(self, verdict: Verdict) -> dict[str, object]:
        """Return the verdict with its run, so that commands need nothing but the record."""
        window = self.run.window
        found = find_acceptance(self.run, self.table, verdict.failed_rules)
        return {
            **verdict.to_dict(),
            "run_id": self.run.run_id,
            "window": [window.start.isoformat(), window.end.isoformat()],
            "moves_watermark": self.run.moves_watermark,
            "accepted_reason": found.reason if found and verdict.accepted_by else None,
        }

    def _accepted_by(self, failed_rules: tuple[str, ...]) -> str | None:
        found = find_acceptance(self.run, self.table, failed_rules)
        return found.accepted_by if found else None

    def _examples(self, rule_id: str) -> tuple[tuple[str, int], ...]:
        query = examples(self.table, rule_id, self.rows)
        found = self.connection.execute(query).fetchall() if query else []
        return tuple((visible(str(value)), count) for value, count in found)

    def _notes(self, verdict: Verdict) -> dict[str, str]:
        """Return what the commit's metadata says of an acceptance; nothing where there is none."""
        found = find_acceptance(self.run, self.table, verdict.failed_rules)
        return found.metadata() if found and verdict.accepted_by else {}

    def _retyped(self) -> str:
        """Return which staged columns have another type than their contract's, and which."""
        if self.batch is None:
            return ""
        staged = self.connection.sql(self.rows)
        schema = CONTRACTS[self.table].schema
        wanted = self.connection.sql(empty(schema))
        kinds = dict(zip(wanted.columns, wanted.types, strict=True))
        return "; ".join(
            f"column {name} of {kind}, not {kinds[name]}"
            for name, kind in zip(staged.columns, staged.types, strict=True)
            if kind != kinds.get(name, kind)
        )

    def _publish_build(self) -> Publication:
        verdict = self.checked.verdict if self.checked else None
        build, before = load_build(self.run, self.table), open_table(self.table)
        table = commit_build(build, self.run, self._notes(verdict) if verdict else {})
        rows, new = (
            sum(file.rows for file in build.files),
            rows_brought(build, before, table.version()),
        )
        held = None if new is None else rows - new
        return Publication(self.table, rows, new, 0, held, table.version())


@contextmanager
def judging(table: str, retyped: Callable[[], str] = str) -> Iterator[None]:
    """Tell an outage from unreadable rows; what DuckDB says of rows could hold their values.

    Args:
        table: The gate's table.
        retyped: Tells which staged columns are of another type than the table's.
    """
    where = f"gate of {table}; nothing is committed"
    try:
        yield
    except (*OUTAGES, OSError) as error:
        raise outage(table, error) from None
    except duckdb.Error as error:
        raise translate(error, where) or ContractError(
            expected="rows of the declared columns and types",
            came=retyped() or type(error).__name__,
            where=where,
            remedy="compare the staged files' columns with the contract or the rules' columns",
        ) from None


@contextmanager
def open_gate(table: str, run: Run) -> Iterator[Gate]:
    """Open a table's gate over what the run staged.

    Raises:
        StageMissingError: Nothing was staged.
        StageDamagedError: A staged file is not the one in its manifest.
        ConfigurationError: The table has no rules.
        LakeError: The lake or the staged files can't be read.
        GateOutageError: DuckDB failed.
    """
    book = rule_book(table)
    batch = load_batch(run, table) if book.splits_rows else None
    rows = staged_batch(run, book, batch)
    with judging(table):
        if batch is not None:
            check_files(run, batch)
    # The extension takes 0.3 s to load (2026-11-24): bronze's commit, keys and limits need it.
    is_lake_read = book.splits_rows or book.references() or book.watches_values
    session = connect() if is_lake_read else duckdb.connect(config=dict(session_config()))
    with session as connection, ExitStack() as stack:
        with judging(table):
            relations = window_and_keys(book, run, batch, connection)
            relations(connection)
            database = stack.enter_context(gate_database(rows, relations))
        yield Gate(table, run, connection, book, rows, database, batch)
