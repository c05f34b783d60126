"""What stands before and behind a gate: staged rows in, a commit out, records of both."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from include.chimera.errors import GateFailedError, StageMissingError
from include.chimera.faults import fault_point
from include.chimera.lake.builds import commit_build, staged_columns, staged_folder
from include.chimera.lake.engine import connect
from include.chimera.lake.publish import Publication
from include.chimera.lake.relations import read_files
from include.chimera.lake.stage import (
    PUBLICATION,
    VERDICT,
    load_batch,
    load_build,
    write_record,
)
from include.chimera.lake.staging import check_files, rows_of
from include.chimera.quality.gate import GatedCheckpoint, gate_database, gx_context
from include.chimera.quality.publish import publish_rows
from include.chimera.quality.rules import RuleBook, rule_book
from include.chimera.quality.split import bad_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection
    from great_expectations.data_context import FileDataContext

    from include.chimera.lake.stage import Batch
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
    checked: GatedCheckpoint | None = None

    def context(self) -> FileDataContext:
        """Return the GX project over the staged rows."""
        return gx_context(self.database)

    def checkpoint(self, context: FileDataContext) -> GatedCheckpoint:
        """Return the table's checkpoint; the rows that the split will refuse are counted first."""
        fault_point("audit.start")
        refused = self._count(bad_rows(self.table, self.rows)) if self.batch else 0
        unparsed = self.batch.rows_unparsed if self.batch else 0
        self.checked = GatedCheckpoint(
            context.checkpoints.get(self.table),
            self.table,
            self._count(self.rows) + unparsed,
            refused + unparsed,
            self.book.min_pass_ratio,
        )
        return self.checked

    def publish(self) -> None:
        """Commit what passed and record the verdict; to be called once the checkpoint has run.

        Raises:
            GateFailedError: The verdict forbids it; nothing is committed.
            StageMissingError: The checkpoint has not run.
        """
        verdict = self.checked.verdict if self.checked else None
        if verdict is None:
            raise StageMissingError(
                expected="a verdict",
                came="none: the checkpoint has not run",
                where=f"gate of {self.table}, run {self.run.run_id}",
                remedy="clear the gate's task",
            )
        write_record(self.run, self.table, VERDICT, verdict.to_dict())
        if not verdict.success:
            raise GateFailedError(
                expected=f"no broken critical rule, {verdict.min_pass_ratio:.0%} of the rows good",
                came=f"{', '.join(verdict.failed_rules) or 'no broken rule'}; "
                f"{verdict.rows_refused} of {verdict.rows} rows bad",
                where=f"gate of {self.table}, run {self.run.run_id}; the live version is unchanged",
                remedy="see the rules' notes in include/gx/rules, mend the rows, clear the task "
                "that staged them",
            )
        publication = (
            publish_rows(self.connection, self.batch, self.run, verdict.rows_refused)
            if self.batch
            else self._publish_build()
        )
        write_record(self.run, self.table, PUBLICATION, asdict(publication))
        fault_point("publish.recorded")
        logger.info("gate of %s: %s, %s", self.table, verdict.outcome, publication)

    def _publish_build(self) -> Publication:
        build = load_build(self.run, self.table)
        table = commit_build(build, self.run)
        rows = sum(file.rows for file in build.files)
        return Publication(self.table, rows, rows, 0, 0, table.version())

    def _count(self, query: str) -> int:
        row = self.connection.execute(f"select count(*) from ({query})").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def open_gate(table: str, run: Run) -> Iterator[Gate]:
    """Open a table's gate over what the run staged.

    Raises:
        StageMissingError: Nothing was staged.
        StageDamagedError: A staged file is not the one in its manifest.
        ConfigurationError: The table has no rules.
    """
    book, batch = rule_book(table), None
    if book.splits_rows:
        batch = load_batch(run, table)
        check_files(run, batch)
        rows = rows_of(run, batch)
    else:
        build = load_build(run, table)
        paths = [file.path for file in build.files]
        rows = read_files(staged_folder(build), paths, staged_columns(build))
    with connect() as connection, gate_database(rows) as database:
        yield Gate(table, run, connection, book, rows, database, batch)
