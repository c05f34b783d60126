"""JSON documents and lines in files, from which a profile's SQL takes the contract's columns.

The SQL is DuckDB's. It reads `source`, a row a document, with its columns `file`, `written_at`
(when the file was) and `document` (JSON), and returns columns of the contract, and `written_at`.
Columns that it leaves out are null. What it does not name never gets further: not into the lake,
the dead letters or a message.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from include.chimera.fault_points import fault_point
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.lake.store.duckdb_sessions import duckdb_type, quote
from include.chimera.settings import get_settings
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.sources.row_versions import typed
from include.chimera.sources.stored.lines import json_lines
from include.chimera.sources.stored.local_copies import CopyFaultError, local_copy
from include.chimera.sources.stored.stored_files import ANEW, PACKED, Purpose, all_listed
from include.chimera.window import HOUR, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.contracts import Contract
    from include.chimera.profiles.chosen import Intake
    from include.chimera.sources.stored.stored_files import SourceFile, SourceRoot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
PURPOSE = Purpose("JSON records", "CHIMERA_RECORDS_ROOT", "CHIMERA_LOGS_CONNECTION")
MALFORMED = "malformed_json"
_ENDINGS = (".json", ".jsonl", ".ndjson")
_WHOLE = ".json"
_MOST_BYTES = 64 * 1024 * 1024  # of a document; more lines than one are never held together
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

    A file that ends in `.json` is one document, or one a line; the others are one a line. Rows that
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
        if file.name.endswith(_WHOLE):
            content = copy.file.read(_MOST_BYTES + 1)
            if len(content) <= _MOST_BYTES and (text := _checked(content)) is not None:
                yield text
                return
        for line in json_lines(copy.file):
            if (text := _checked(line.content)) is not None:
                yield text
            else:
                where = {"file": file.name, "offset": line.offset, "bytes": line.length}
                refused.add(MALFORMED, where, f'{{"bytes": {line.length}}}'.encode(), label)


def _checked(content: bytes) -> str | None:
    """Return a document's text, None if it is not JSON."""
    try:
        msgspec.json.decode(content)
        return content.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
