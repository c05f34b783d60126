"""What stands before and behind a gate: staged rows in, a commit out, records of both."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from include.chimera.errors import GateFailedError, StageMissingError
from include.chimera.lake.builds import commit_build, staged_columns, staged_folder
from include.chimera.lake.engine import connect
from include.chimera.lake.letters import append_letters, letters_query
from include.chimera.lake.publish import Publication, Publisher
from include.chimera.lake.relations import read_files
from include.chimera.lake.stage import (
    PUBLICATION,
    VERDICT,
    load_batch,
    load_build,
    write_record,
)
from include.chimera.lake.staging import staged_refusals, staged_rows
from include.chimera.quality.gate import GatedCheckpoint, Verdict, gate_database, gx_context
from include.chimera.quality.rules import RuleBook, rule_book
from include.chimera.quality.split import bad_rows, good_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection
    from great_expectations.data_context import FileDataContext

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
    """

    table: str
    run: Run
    connection: DuckDBPyConnection
    book: RuleBook
    rows: str
    database: Path
    checked: GatedCheckpoint | None = None

    def context(self) -> FileDataContext:
        """Return the GX project over the staged rows."""
        return gx_context(self.database)

    def checkpoint(self, context: FileDataContext) -> GatedCheckpoint:
        """Return the table's checkpoint; the rows that the split will refuse are counted first."""
        refused = self._count(bad_rows(self.table, self.rows)) if self.book.splits_rows else 0
        unparsed = load_batch(self.run, self.table).rows_unparsed if self.book.splits_rows else 0
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
            self._publish_rows(verdict) if self.book.splits_rows else self._publish_build()
        )
        write_record(self.run, self.table, PUBLICATION, asdict(publication))
        logger.info("gate of %s: %s, %s", self.table, verdict.outcome, publication)

    def _publish_rows(self, verdict: Verdict) -> Publication:
        """Append the refused records to the dead letters, then commit the good rows."""
        for stage, records in (
            ("extract", staged_refusals(self.run, self.table)),
            ("gate", bad_rows(self.table, self.rows)),
        ):
            letters = letters_query(records, self.table, stage, self.run)
            append_letters(self.connection, letters, self.run)
        publisher = Publisher(
            self.connection,
            load_batch(self.run, self.table),
            good_rows(self.table, self.rows),
            self.run,
        )
        return publisher.publish(verdict.rows_refused)

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
        ConfigurationError: The table has no rules.
    """
    book = rule_book(table)
    if book.splits_rows:
        rows = staged_rows(run, table)
    else:
        build = load_build(run, table)
        paths = [file.path for file in build.files]
        rows = read_files(staged_folder(build), paths, staged_columns(build))
    with connect() as connection, gate_database(rows) as database:
        yield Gate(table, run, connection, book, rows, database)
