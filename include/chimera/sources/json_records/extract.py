"""JSON documents and lines in files, from which a profile's SQL takes the contract's columns.

The SQL is DuckDB's. It reads `source`, a row a document, with its columns `file`, `written_at`
(when the file was) and `document` (JSON), and returns columns of the contract, and these two.
Columns that it leaves out are null. A line of a table (`.csv`) is a document of texts, by the names
in its first line. What the SQL does not name never gets further: not into the lake,
the dead letters or a message.
"""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from include.chimera.contracts import EVALUATIONS
from include.chimera.fault_points import fault_point
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import Prepared, row_batches, stage_rows
from include.chimera.lake.store.duckdb_sessions import quote
from include.chimera.profiles.chosen import sources
from include.chimera.profiles.profile_format import FilesReader
from include.chimera.settings import get_settings
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.reports.evaluations import UNKNOWN_FORMAT
from include.chimera.sources.row_versions import completed, typed, with_first_times
from include.chimera.sources.stored.lines import JsonLine, json_lines
from include.chimera.sources.stored.local_copies import CopyFaultError, local_copy
from include.chimera.sources.stored.stored_files import ANEW, PACKED, Purpose, all_listed
from include.chimera.window import HOUR, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from duckdb import DuckDBPyConnection

    from include.chimera.profiles.chosen import Intake
    from include.chimera.sources.stored.stored_files import SourceFile, SourceRoot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
PURPOSE = Purpose("JSON records", "CHIMERA_RECORDS_ROOT", "CHIMERA_LOGS_CONNECTION")
MALFORMED, MALFORMED_TABLE = "malformed_json", "malformed_csv"
TOO_LARGE = "json_over_64_mib"
_WHOLE, _TABLE = ".json", ".csv"
_ENDINGS = (_WHOLE, ".jsonl", ".ndjson", _TABLE)
_MOST_BYTES = 64 * 1024 * 1024  # of a document; more lines than one are never held together
_NO_LINE = JsonLine(0, b"", 0)
_BATCH_BYTES, _BATCH_ROWS = 8 * 1024 * 1024, 2_000
_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("written_at", pa.timestamp("us", tz="UTC")),
        pa.field("document", pa.string()),
    ]
)


def is_record_file(name: str) -> bool:
    """Is it a file of JSON records, by its name?"""
    return name.removesuffix(PACKED).endswith(_ENDINGS) and name[0] not in "._"


def extract_records(intake: Intake, root: SourceRoot, run: Run) -> Batch:
    """Stage the rows that a profile's SQL makes of the files written since the lookback began.

    A file that ends in `.json` is one document, or one a line; the others are one a line. Of
    evaluations, which may have no time but their file's, the first one stays. Rows that
    happened after the window are left to later runs, those that bronze holds are duplicates.
    Refuse what is not JSON, and files of which no table takes anything, without their content.

    Args:
        intake: How the table, of kind `versions`, is filled.
        root: Where the files lie, in folders of any depth.
        run: The run.

    Raises:
        ConfigurationError: An object store refuses the key, or has no such bucket.
        SourceUnavailableError: A folder can't be listed, or a file can't be read.
    """
    fault_point("extract.start")
    staged = ANEW(_stage, intake, root, run)
    logger.info("staged %s records, refused %s", staged.rows_read, staged.rows_unparsed)
    return staged


def rows_query(intake: Intake) -> str:
    """Return the DuckDB query of a table's rows in `stream`, by its profile's SQL.

    They have their `file`, too, and may be of after a run's window.
    """
    query = (intake.folder / intake.reader.files[0]).read_text()
    when = "coalesce(updated_at, created_at, written_at)"  # refused by its gate, and not lost
    return (
        f"with source as (from stream) select * replace ({when} as updated_at) "
        f"from ({completed(intake.contract, query)})"
    )


def _stage(intake: Intake, root: SourceRoot, run: Run) -> Batch:
    contract = intake.contract
    rows = with_first_times(contract) if contract is EVALUATIONS else "from source"
    end = f"timestamptz {quote(run.window.end.isoformat())}"
    with RefusedRecords() as refused:
        reader = _Reader(root, run, refused)
        return stage_rows(
            run,
            Batch(contract.name, draw_token(contract.name)),
            reader.stream(),
            prepared=Prepared(rows_query(intake)),
            query=typed(contract, rows=f"({rows} where updated_at < {end})"),
            refused=partial(reader.refusals, intake),
            omitted=refused.omitted,
            is_met_again=True,
        )


@dataclass
class _Reader:
    """Reads the files of one run.

    Args:
        root: Where they lie.
        run: The run.
        refused: Where to put what is refused.
        chosen: Names of the files to read; None: those that are due.
        read: Names of the files that held a document.
    """

    root: SourceRoot
    run: Run
    refused: RefusedRecords
    chosen: set[str] | None = None
    read: set[str] = field(default_factory=set)

    def stream(self) -> pa.RecordBatchReader:
        """Return file, time and text of each JSON document."""
        return pa.RecordBatchReader.from_batches(_SCHEMA, row_batches(_SCHEMA, self._documents()))

    def refusals(self, intake: Intake, session: DuckDBPyConnection) -> Iterable[pa.RecordBatch]:
        """Return what is refused: documents, and once, by the first table, files of no platform."""
        beside = sources()[intake.source]
        if intake.contract == beside[0].contract:
            taken = session.execute("select distinct file from source").fetchall()
            for name in sorted(self._foreign({name for (name,) in taken}, beside, session)):
                self._refuse_file(name, UNKNOWN_FORMAT)
        return self.refused.batches()

    def _foreign(
        self, taken: set[str], beside: Sequence[Intake], session: DuckDBPyConnection
    ) -> set[str]:
        """Return the files that no table takes anything of, and no profile knows."""
        left = self.read - taken
        known = (
            f"from stream where {each.reader.known}"
            for each in beside
            if isinstance(each.reader, FilesReader)
        )
        for query in (*known, *map(rows_query, beside[1:])):
            if left:
                with RefusedRecords() as told_before:
                    again = replace(self, refused=told_before, chosen=left)
                    session.register("stream", again.stream())
                    found = session.execute(f"select distinct file from ({query})").fetchall()
                left -= {name for (name,) in found}
        return left

    def _documents(self) -> Iterator[tuple[str, datetime, str]]:
        lower = self.run.window.start - get_settings().lookback_hours * HOUR
        for listing in all_listed(self.root, is_record_file):
            for file in listing.files:
                if file.fault:
                    self._refuse_file(file.name, file.fault)
                    continue
                written = datetime.fromtimestamp(file.written_at(), UTC)
                if written < lower or (self.chosen is not None and file.name not in self.chosen):
                    continue
                try:
                    for text in _texts(file, self.refused, hour_label(self.run.window.start)):
                        if len(text) > len("[]"):
                            self.read.add(file.name)
                        yield file.name, written, text
                except CopyFaultError as fault:
                    self._refuse_file(file.name, fault.reason)

    def _refuse_file(self, name: str, reason: str) -> None:
        logger.warning("%s is not read: %s", name, reason)
        self.refused.add(reason, {"file": name}, b"", hour_label(self.run.window.start))


def _texts(file: SourceFile, refused: RefusedRecords, label: str) -> Iterator[str]:
    with local_copy(file) as copy:
        if file.name.endswith(_TABLE):
            yield from _table(copy.file, file.name, refused, label)
            return
        if file.name.endswith(_WHOLE):
            content = copy.file.read(_MOST_BYTES + 1)
            if len(content) <= _MOST_BYTES and (text := _checked(content)) is not None:
                yield text
                return
            if _checked(next(json_lines(copy.file), _NO_LINE).content) is None:  # nor one a line
                raise CopyFaultError(MALFORMED if len(content) <= _MOST_BYTES else TOO_LARGE)
        for line in json_lines(copy.file):
            if (text := _checked(line.content)) is not None:
                yield text
            else:
                where = {"file": file.name, "offset": line.offset, "bytes": line.length}
                refused.add(MALFORMED, where, f'{{"bytes": {line.length}}}'.encode(), label)


def _table(file: BinaryIO, name: str, refused: RefusedRecords, label: str) -> Iterator[str]:
    """Yield each line of a table as a document; refuse one with more or fewer values than names."""
    text = TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                where = {"file": name, "line": reader.line_num}
                refused.add(MALFORMED_TABLE, where, f'{{"values": {len(row)}}}'.encode(), label)
            else:
                yield msgspec.json.encode(row).decode()
    except (csv.Error, UnicodeDecodeError):  # what follows can't be told apart
        where = {"file": name, "line": reader.line_num}
        refused.add(MALFORMED_TABLE, where, b'{"values": 0}', label)
    finally:
        text.detach()


def _checked(content: bytes) -> str | None:
    """Return a document's text, None if it is not JSON."""
    try:
        msgspec.json.decode(content)
        return content.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
