"""Reports of evaluations, wherever below one root they lie: a file is a unit (docs/adr/0030).

A run takes each file that was written before its window's end and whose content bronze does not
hold yet, however old it is: so a file that came late is found by the next run, and a second run
finds nothing. A file that was written again replaces its own rows; one that vanished leaves them.
One that was refused is read again when it was written again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from include.chimera.contracts import EVALUATIONS, IS_DELETED, ROW_HASH
from include.chimera.fault_points import fault_point
from include.chimera.lake.dead_letters.letters import file_letters
from include.chimera.lake.delta.scans import live_rows
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import Prepared, stage_rows
from include.chimera.lake.store.duckdb_sessions import connect, quote
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.reports.evaluations import (
    NO_EVALUATIONS,
    Evaluation,
    RefusedRecord,
    ReportOrigin,
)
from include.chimera.sources.reports.formats import read_report
from include.chimera.sources.reports.spooled_rows import SpooledRows
from include.chimera.sources.row_versions import typed, with_first_times
from include.chimera.sources.stored.local_copies import CopyFaultError, local_copy
from include.chimera.sources.stored.stored_files import ANEW, PACKED, Purpose, all_listed
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from include.chimera.sources.stored.local_copies import LocalCopy
    from include.chimera.sources.stored.stored_files import SourceFile, SourceRoot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
PURPOSE = Purpose("evaluation reports", "CHIMERA_EVALUATIONS_ROOT", "CHIMERA_LOGS_CONNECTION")
_ENDINGS = (".jsonl", ".json", ".eval", ".txt")
_TEXTS = ".hitlog.jsonl"  # garak's second file: the texts of successful attacks, nothing to count
# A file that was touched, but holds what bronze has, is read again by the runs of its own hours
# alone. One that is older than what bronze has of it was restored, and is always looked at.
_LOOKED_AT = timedelta(hours=24)
_GONE = "is_gone"
_ROWS = pa.schema(
    [
        *(EVALUATIONS.schema.field(name) for name in EVALUATIONS.source_columns),
        pa.field(_GONE, pa.bool_()),
    ]
)


class Published(NamedTuple):
    """What bronze holds of a file.

    Args:
        content_hash: SHA-256 of the content.
        written_at: When that content was written (UTC).
    """

    content_hash: str
    written_at: datetime


def is_report(name: str) -> bool:
    """May it be a report, by its name? Its content decides."""
    plain = name.removesuffix(PACKED)
    return plain.endswith(_ENDINGS) and not plain.endswith(_TEXTS) and name[0] not in "._"


def extract_reports(root: SourceRoot, run: Run, zone: ZoneInfo) -> Batch:
    """Stage the evaluations of all reports that are new or were written again.

    A report that is not whole, or that no parser knows, is refused as one; a record that can't be a
    row alone.

    Args:
        root: Where the reports lie, in folders of any depth.
        run: The run; files written after its window are left to later runs.
        zone: The time zone of times that name none.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: A folder can't be listed, or a file can't be read.
    """
    fault_point("extract.start")
    staged = ANEW(_stage, root, run, zone)
    logger.info("staged %s evaluations, refused %s", staged.rows_read, staged.rows_unparsed)
    return staged


def _stage(root: SourceRoot, run: Run, zone: ZoneInfo) -> Batch:
    batch = Batch(EVALUATIONS.name, draw_token(EVALUATIONS.name))
    with RefusedRecords() as refused:
        reader = _Reader(root, run, zone, refused, published_files(), _refused_files())
        return stage_rows(
            run,
            batch,
            pa.RecordBatchReader.from_batches(_ROWS, reader.batches()),
            prepared=Prepared(),
            query=typed(EVALUATIONS, deleted=_GONE, rows=f"({with_first_times(EVALUATIONS)})"),
            refused=lambda _: refused.batches(),
            omitted=refused.omitted,
            is_met_again=True,
        )


def _refused_files() -> set[tuple[str, str, int]]:
    """Return name, time of writing and length of each file that was refused as a whole."""
    with connect() as connection:
        return set(
            connection.execute(
                f"select file, written_at, bytes from ({file_letters(EVALUATIONS.name)}) "
                "where written_at is not null"
            ).fetchall()
        )


def published_files() -> dict[str, Published]:
    """Return what bronze holds of each report, by its name."""
    table = open_table(EVALUATIONS.name)
    if table is None:
        return {}
    with connect() as connection:
        found = connection.execute(
            "select report_file, arg_max(report_hash, updated_at), epoch_us(max(updated_at)) from "
            f"({live_rows(table, EVALUATIONS)}) where report_file is not null group by all"
        ).fetchall()
    return {name: Published(digest, _moment(micros)) for name, digest, micros in found}


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _may_be_two(written: datetime) -> bool:
    """May a file be written again at this very time? A store's times are whole seconds."""
    age = datetime.now(UTC) - written
    return not written.microsecond and timedelta(0) <= age < timedelta(seconds=1)


def _live_evaluations(name: str) -> dict[str, dict[str, Any]]:
    """Return the newest rows that a file has made and that are not deleted, by their key."""
    table = open_table(EVALUATIONS.name)
    if table is None:
        return {}
    columns = ", ".join(EVALUATIONS.source_columns)
    with connect() as connection:
        connection.execute("set time zone 'UTC'")
        rows = connection.execute(
            f"select {columns} from (from ({live_rows(table, EVALUATIONS)}) qualify row_number() "
            f"over (partition by evaluation_id order by updated_at desc, {ROW_HASH} desc) = 1) "
            f"where report_file = {quote(name)} and not {IS_DELETED}"
        ).to_arrow_table()
    return {row["evaluation_id"]: row for row in rows.to_pylist()}


@dataclass
class _Reader:
    """Reads the reports of one run, file by file."""

    root: SourceRoot
    run: Run
    zone: ZoneInfo
    refused: RefusedRecords
    published: dict[str, Published]
    known_refused: set[tuple[str, str, int]]
    taken: set[str] = field(default_factory=set)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of each file that is taken, a whole file at a time."""
        for listing in all_listed(self.root, is_report):
            for file in listing.files:
                written = datetime.fromtimestamp(file.written_at(), UTC) if not file.fault else None
                if not written:
                    self._refuse(file, file.fault or "", None)
                elif self._is_due(file, written):
                    yield from self._file(file, written)

    def _is_due(self, file: SourceFile, written: datetime) -> bool:
        known = self.published.get(file.name)
        if file.name in self.taken or written >= self.run.window.end or _may_be_two(written):
            return False
        if (file.name, written.isoformat(), file.size) in self.known_refused:
            logger.info("%s is as it was when it was refused", file.name)
            return False
        if known is None or written < known.written_at:
            return True
        was_looked_at = written < self.run.window.start - _LOOKED_AT
        return written > known.written_at and not was_looked_at

    def _file(self, file: SourceFile, written: datetime) -> Iterator[pa.RecordBatch]:
        self.taken.add(file.name)
        known = self.published.get(file.name)
        try:
            with local_copy(file) as copy:
                if not known or copy.content_hash != known.content_hash:
                    yield from self._report(file, copy, written, known)
        except CopyFaultError as fault:
            self._refuse(file, fault.reason, written)

    def _report(
        self, file: SourceFile, copy: LocalCopy, written: datetime, known: Published | None
    ) -> Iterator[pa.RecordBatch]:
        """Yield a report's rows once all of it is read, or nothing if it is refused."""
        name = file.name
        after = known.written_at + timedelta(microseconds=1) if known else written
        about = {
            "updated_at": max(written, after),
            "report_file": name,
            "report_hash": copy.content_hash,
        }
        gone = _live_evaluations(name) if known else {}
        is_empty = not gone
        with SpooledRows(_ROWS) as rows:
            for found in read_report(copy.file, ReportOrigin(name, written, self.zone)):
                if isinstance(found, Evaluation):
                    gone.pop(found.evaluation_id, None)
                    rows.add({**vars(found), **about, _GONE: False})
                    is_empty = False
                elif isinstance(found, RefusedRecord):
                    self._refuse_record(name, found, written)
                else:
                    self._refuse(file, found.reason, written)
                    return
            if is_empty:
                self._refuse(file, NO_EVALUATIONS, written)
            for row in gone.values():
                rows.add({**row, **about, _GONE: True})
            yield from rows.batches()

    def _refuse(self, file: SourceFile, reason: str, written: datetime | None) -> None:
        """Refuse a file as a whole, once for each time that it is written; None: not known."""
        logger.warning("%s is not counted: %s", file.name, reason)
        when = {"written_at": written.isoformat(), "bytes": file.size} if written else {}
        label = hour_label(written or self.run.window.start)
        self.refused.add(reason, {"file": file.name, **when}, b"", label)

    def _refuse_record(self, name: str, record: RefusedRecord, written: datetime) -> None:
        """Refuse a record by its place and length: it may hold texts, which are not stored."""
        place = "offset" if record.is_line else "index"
        where = {"file": name, place: record.offset, "bytes": record.length}
        payload = f'{{"bytes": {record.length}}}'.encode()
        self.refused.add(record.reason, where, payload, hour_label(written))
