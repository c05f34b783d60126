"""JSON documents and lines in files, from which a profile's SQL takes the contract's columns.

The SQL is DuckDB's. It reads `source`, a row a document, with its columns `file`, `written_at`
(when the file was) and `document` (JSON), and returns columns of the contract, and `written_at`.
Columns that it leaves out are null. A line of a table (`.csv`) is a document of texts, by the names
in its first line. What the SQL does not name never gets further: not into the lake,
the dead letters or a message.
"""

from __future__ import annotations

import csv
import logging
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from include.chimera.contracts import EVALUATIONS
from include.chimera.fault_points import fault_point
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.lake.store.duckdb_sessions import duckdb_type, quote
from include.chimera.settings import get_settings
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.row_versions import typed, with_first_times
from include.chimera.sources.stored.lines import JsonLine, json_lines
from include.chimera.sources.stored.local_copies import CopyFaultError, local_copy
from include.chimera.sources.stored.stored_files import ANEW, PACKED, Purpose, all_listed
from include.chimera.window import HOUR, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from include.chimera.contracts import Contract
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
    Refuse what is not JSON, without its content.

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


def rows_query(contract: Contract, query: str, run: Run) -> str:
    """Return the DuckDB query of the contract's rows in `source`, by a profile's SQL."""
    nulls = ", ".join(
        f"cast(null as {duckdb_type(contract.schema.field(name).type)}) as {name}"
        for name in contract.source_columns
    )
    whole = f"({query}) union all by name (select {nulls} where false)"
    when = "coalesce(updated_at, created_at, written_at)"  # refused by its gate, and not lost
    rows = (
        f"select * replace ({when} as updated_at) from ({whole}) "
        f"where {when} < {quote(run.window.end.isoformat())}::timestamptz"
    )
    if contract is EVALUATIONS:
        rows = with_first_times(contract, rows)
    return typed(contract).replace("from source", f"from ({rows})", 1)


def _stage(intake: Intake, root: SourceRoot, run: Run) -> Batch:
    contract, query = intake.contract, intake.reader.files[0]
    with RefusedRecords() as refused:
        return stage_rows(
            run,
            Batch(contract.name, draw_token(contract.name)),
            pa.RecordBatchReader.from_batches(_SCHEMA, _batches(_documents(root, run, refused))),
            query=rows_query(contract, (intake.folder / query).read_text(), run),
            refused=refused.batches,
            omitted=refused.omitted,
            is_met_again=True,
            is_rowwise=True,
        )


def _batches(documents: Iterator[tuple[str, datetime, str]]) -> Iterator[pa.RecordBatch]:
    chunk: list[tuple[str, datetime, str]] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document[-1])
        if size >= _BATCH_BYTES or len(chunk) >= _BATCH_ROWS:
            yield _batch(chunk)
            chunk, size = [], 0
    if chunk:
        yield _batch(chunk)


def _batch(chunk: list[tuple[str, datetime, str]]) -> pa.RecordBatch:
    columns = zip(zip(*chunk, strict=True), _SCHEMA.types, strict=True)
    return pa.record_batch([pa.array(*column) for column in columns], schema=_SCHEMA)


def _documents(
    root: SourceRoot, run: Run, refused: RefusedRecords
) -> Iterator[tuple[str, datetime, str]]:
    """Yield file, time and text of each JSON document in the files that are due."""
    lower = run.window.start - get_settings().lookback_hours * HOUR
    label = hour_label(run.window.start)
    for listing in all_listed(root, is_record_file):
        for file in listing.files:
            if file.fault:
                refused.add(file.fault, {"file": file.name}, b"", label)
                continue
            written = datetime.fromtimestamp(file.written_at(), UTC)
            if written < lower:
                continue
            try:
                for text in _texts(file, refused, label):
                    yield file.name, written, text
            except CopyFaultError as fault:
                logger.warning("%s is not read: %s", file.name, fault.reason)
                refused.add(fault.reason, {"file": file.name}, b"", label)


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
