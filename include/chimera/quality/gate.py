"""Run a gate from staged rows to a commit, and record its verdict and publication."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import duckdb

from include.chimera.contracts import CONTRACTS
from include.chimera.errors import CLI, ContractError, GateFailedError, StageMissingError, visible
from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.scans import empty
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.model_builds import commit_build
from include.chimera.lake.publish.new_rows import rows_brought
from include.chimera.lake.publish.stop_switch import require_publishing
from include.chimera.lake.staged.manifests import Batch, Build, load_manifest
from include.chimera.lake.staged.publications import Publication
from include.chimera.lake.staged.records import write_record
from include.chimera.lake.staged.stage_rows import check_files
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.lake.store.storage_errors import translate
from include.chimera.quality.acceptance import find_acceptance
from include.chimera.quality.batches import staged_rows, window_and_keys
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
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from duckdb import DuckDBPyConnection
    from great_expectations.data_context import FileDataContext

    from include.chimera.lake.staged.verdicts import Verdict
    from include.chimera.window import Run

logger = logging.getLogger(__name__)


@dataclass
class Gate:
    """One table's gate in one run.

    Args:
        table: `<layer>.<table>`.
        run: The DAG run.
        connection: DuckDB session that can read the staged files.
        book: The table's rules.
        rows: Query of the staged rows.
        database: The DuckDB file that GX reads.
        staged: What the run staged; loaded once, so that rules and commit see the same files.
    """

    table: str
    run: Run
    connection: DuckDBPyConnection
    book: RuleBook
    rows: str
    database: Path
    staged: Batch | Build
    started: float = field(default_factory=time.monotonic)
    checked: GatedCheckpoint | None = None

    def context(self) -> FileDataContext:
        """Return the GX project over the staged rows."""
        return gx_context(self.database)

    def checkpoint(self, context: FileDataContext) -> GatedCheckpoint:
        """Return the table's checkpoint."""
        fault_point("audit.start")
        unparsed = self.staged.rows_unparsed
        self.checked = GatedCheckpoint(
            context.checkpoints.get(self.book.suite),
            self.table,
            self.run,
            sum(file.rows for file in self.staged.files) + unparsed,
            unparsed,
            self.book.min_pass_ratio,
            find_acceptance=partial(find_acceptance, self.run, self.table),
            examples=self._examples,
            started=self.started,
        )
        return self.checked

    def publish(self) -> Publication:
        """Record the verdict, and commit the staged rows on a pass. Run the checkpoint first.

        Raises:
            GateFailedError: The verdict is negative; nothing is committed.
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
        write_record(self.run, self.table, verdict)
        keep_result(self.checked)
        if not verdict.success:
            raise self._refusal(verdict)
        require_publishing(f"gate of {self.table}, run {self.run.run_id}")
        acceptance = self.checked.acceptance
        notes = acceptance.metadata() if acceptance else {}
        with judging(self.table, self._retyped):
            publication = (
                self._publish_build(self.staged, notes)
                if isinstance(self.staged, Build)
                else publish_rows(
                    self.connection,
                    self.staged,
                    self.run,
                    rows_refused=verdict.rows_refused,
                    notes=notes,
                )
            )
        write_record(self.run, self.table, publication)
        fault_point("publish.recorded")
        logger.info("gate of %s: %s; %s", self.table, verdict.outcome, publication)
        return publication

    def _refusal(self, verdict: Verdict) -> GateFailedError:
        remedies = {rule.rule_id: rule.remedy for rule in self.book.rules}
        first = next((remedies[name] for name in verdict.failed_rules if name in remedies), "")
        return GateFailedError(
            expected=f"no broken critical rule, {verdict.min_pass_ratio:.0%} of the rows good",
            came=f"{', '.join(self._counted(verdict))}; "
            f"{verdict.rows_refused} of {verdict.rows} rows bad",
            where=f"gate of {self.table}, run {self.run.run_id}; the live version is unchanged",
            remedy=f"{first} The staged files: {CLI} staged {self.table} "
            f"--run {self.run.run_id}".strip(),
        )

    def _counted(self, verdict: Verdict) -> Iterator[str]:
        """Yield each failed rule, with its counts if they are not among the bad rows."""
        whole = {rule.rule_id for rule in self.book.rules if not rule.is_row_rule}
        results = {result.rule_id: result for result in verdict.results}
        for name in verdict.failed_rules:
            found = results.get(name) if name in whole else None
            if found and found.unexpected_count is not None:
                yield f"{name} ({found.unexpected_count} of {found.checked_count})"
            else:
                yield name

    def _examples(self, rule_id: str) -> tuple[tuple[str, int], ...]:
        query = examples(self.table, rule_id, self.rows)
        found = self.connection.execute(query).fetchall() if query else []
        return tuple((visible(str(value)), count) for value, count in found)

    def _retyped(self) -> str:
        """Name the staged columns whose type differs from the contract's, with both types."""
        if isinstance(self.staged, Build):
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

    def _publish_build(self, build: Build, notes: Mapping[str, str]) -> Publication:
        before = open_table(self.table)
        table = commit_build(build, self.run, notes, before=before)
        rows, new = (
            sum(file.rows for file in build.files),
            rows_brought(build, before, table.version()),
        )
        held = None if new is None else rows - new
        return Publication(self.table, rows, new, 0, held, table.version())


@contextmanager
def judging(table: str, retyped: Callable[[], str] = str) -> Iterator[None]:
    """Translate DuckDB's errors into an outage or unreadable rows, without their text.

    The text could hold values of rows.

    Args:
        table: The gate's table.
        retyped: Describes staged columns whose type differs from the table's.

    Raises:
        GateOutageError: DuckDB failed.
        MemoryExhaustedError: DuckDB reached its memory limit.
        LakeError: The lake can't be read or written.
        ConversionError: A value does not fit its column.
        ContractError: The rows can't be read with the declared columns and types.
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
        StageDamagedError: A staged file differs from its manifest.
        ConfigurationError: The table has no rules.
        LakeError: The lake or the staged files can't be read.
        GateOutageError: DuckDB failed.
    """
    book = rule_book(table)
    staged = load_manifest(run, table)
    rows = staged_rows(run, staged)
    with judging(table):
        if isinstance(staged, Batch):
            check_files(run, staged)
    # The Delta extension takes 0.3 s to load (2026-11-24). Only bronze commits, keys and limits
    # need it.
    is_lake_read = bool(book.splits_rows or book.references() or book.watches_values)
    with connect(has_delta=is_lake_read) as connection, ExitStack() as stack:
        with judging(table):
            relations = window_and_keys(book, run, staged, connection)
            relations(connection)
            database = stack.enter_context(gate_database(rows, relations))
        yield Gate(table, run, connection, book, rows, database, staged)
