"""Stage a source's rows and refused records as Parquet files, for their gate."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pyarrow as pa

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.errors import StageDamagedError
from include.chimera.fault_points import fault_point
from include.chimera.lake.dead_letters.letters import unknown_records
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.scans import read_files
from include.chimera.lake.staged.manifests import Batch, attempt_folder, save
from include.chimera.lake.store import storage
from include.chimera.lake.store.duckdb_sessions import connect, identifier, quote
from include.chimera.lake.store.scratch import scratch
from include.chimera.lake.store.storage_errors import storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from duckdb import DuckDBPyConnection

    from include.chimera.window import Run

REFUSED_SCHEMA = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("coordinates", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field(PARTITION, pa.string()),
    ]
)
_REFUSED = "refused"
# Rows that a thread buffers before it writes them. For a million generations, DuckDB's default of
# 524,288 peaks at 836 MB, this at half of it (2026-11-24). A source's rows are in few partitions.
_ROWS_HELD = 10_240
# DuckDB's other memory grows while it writes a file and is freed at its end: ten million rows peak
# at 778 MiB in one file, at 467 in ten (2026-11-25).
_ROWS_A_FILE = 1_000_000
# Long rows fill that memory sooner: 12,000 rows of 64 KB fit in portions of 128 MiB, not of 384
# (2026-11-28).
_BYTES_A_FILE, _LONG_ROW_BYTES = 128 * 1024 * 1024, 4096
# DuckDB's JSON functions give memory back when their statement ends: 700 bytes a span (2026-11-30).
_ROWS_PREPARED = 100_000
# Of what Python hands to DuckDB: ten times as many rows take twice as long to turn into columns.
_BATCH_BYTES, _BATCH_ROWS = 8 * 1024 * 1024, 2_000


class Prepared(NamedTuple):
    """A query whose result becomes `source`, in files on this machine's disk.

    A query that reads `source` more than once would need it in memory as a CTE, and almost so as
    DuckDB's temporary table.

    Args:
        query: DuckDB query over `stream`, a portion of the rows, each row by itself.
        before: Statements that it needs, such as macros.
    """

    query: str = "from stream"
    before: str = ""


@dataclass
class _Feed:
    """Feeds batches to DuckDB, and keeps their errors, which DuckDB would replace by its own."""

    failures: list[BaseException] = field(default_factory=list)

    def reader(self, schema: pa.Schema, rows: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
        """Return the rows as a reader that remembers its errors."""
        return pa.RecordBatchReader.from_batches(schema, self._watched(rows))

    def _watched(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except BaseException as error:
            self.failures.append(error)
            raise

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise the rows' own error instead of the one that DuckDB made of it."""
        try:
            yield
        except duckdb.Error as error:
            raise self.failures[0] if self.failures else error from None


def row_batches(schema: pa.Schema, rows: Iterator[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    """Yield rows as batches of few rows and bytes.

    Args:
        schema: Their columns.
        rows: Their values; the last one is a text or bytes, and decides how large a row is.
    """
    while chunk := list(_chunk(rows)):
        columns = zip(zip(*chunk, strict=True), schema.types, strict=True)
        yield pa.record_batch([pa.array(*column) for column in columns], schema=schema)


def _chunk(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    size = 0
    for row in islice(rows, _BATCH_ROWS):
        yield row
        size += len(row[-1])
        if size > _BATCH_BYTES:
            return


def stage_rows(  # noqa: PLR0913 - each has its own meaning
    run: Run,
    batch: Batch,
    rows: pa.RecordBatchReader,
    *,
    query: str = "from source",
    prepared: Prepared | None = None,
    refused: Callable[[DuckDBPyConnection], Iterable[pa.RecordBatch]] = lambda _: (),
    omitted: Callable[[], int] = int,
    is_met_again: bool = False,
    is_rowwise: bool = False,
) -> Batch:
    """Write a source's rows and refused records as Parquet, then the manifest.

    Args:
        run: The run that reads the source.
        batch: What is known before reading; counts and files are filled in.
        rows: The source's rows; they are streamed, never all in memory.
        query: DuckDB query over `source`, the rows, that returns the contract's columns.
        prepared: What becomes of the rows before the query, which may then read them more than
            once.
        refused: Returns batches of `REFUSED_SCHEMA`; called once `rows` is exhausted, with the
            session, which still has a `source` that is prepared.
        omitted: Returns how many refused records have no letter of their own; called after
            `refused`.
        is_met_again: Whether every run meets the same refused records; known ones are not counted.
        is_rowwise: Whether each result row comes from one source row; then the query runs on
            portions. What is prepared is queried whole.

    Raises:
        ChimeraError: Reading the source failed; its error, unchanged.
        LakeError: The staged files can't be written.
    """
    with storage_errors(f"staging {batch.table}"):
        staged = _write(run, batch, rows, query, prepared, refused, is_met_again, is_rowwise)
        if count := omitted():
            staged = replace(
                staged,
                rows_read=staged.rows_read + count,
                rows_unparsed=staged.rows_unparsed + count,
            )
        save(run, staged)
    fault_point("extract.staged")
    return staged


def _write(  # noqa: PLR0913, PLR0917 - the arguments of `stage_rows`
    run: Run,
    batch: Batch,
    rows: pa.RecordBatchReader,
    query: str,
    prepared: Prepared | None,
    refused: Callable[[DuckDBPyConnection], Iterable[pa.RecordBatch]],
    is_met_again: bool,
    is_rowwise: bool,
) -> Batch:
    contract = CONTRACTS[batch.table]
    folder = attempt_folder(run, batch)
    columns = ", ".join(identifier(name) for name in contract.schema.names)
    feed, files = _Feed(), []
    with scratch("stage") as place, connect() as connection, feed.own_errors():
        connection.execute(f"set partitioned_write_flush_threshold = {_ROWS_HELD}")
        selected, by = f"select {columns} from ({query})", contract.partition_by
        if prepared:
            _prepare(connection, prepared, rows, feed, place)
            files = write_files(connection, selected, folder, contract.schema, by)
        else:
            for portion in _portions(rows, _ROWS_A_FILE) if is_rowwise else [rows]:
                connection.register("source", feed.reader(rows.schema, portion))
                files += write_files(connection, selected, folder, contract.schema, by)
        fault_point("extract.rows_written")
        connection.register(_REFUSED, feed.reader(REFUSED_SCHEMA, refused(connection)))
        records = unknown_records("from refused", batch.table) if is_met_again else "from refused"
        letters = write_files(connection, records, f"{folder}/{_REFUSED}", REFUSED_SCHEMA)
        bounds = _bounds(connection, rows_of(run, replace(batch, files=files)), contract.event_time)
    unparsed = sum(file.rows for file in letters)
    paths = [file.path for file in files] + [f"{_REFUSED}/{file.path}" for file in letters]
    return replace(
        batch,
        files=files,
        letters=letters,
        rows_unparsed=unparsed,
        rows_read=sum(file.rows for file in files) + unparsed,
        digests={path: _digest(f"{folder}/{path}") for path in paths},
        bounds=bounds,
    )


def _prepare(
    connection: DuckDBPyConnection,
    prepared: Prepared,
    rows: pa.RecordBatchReader,
    feed: _Feed,
    place: str,
) -> None:
    """Write what is prepared as files, and make them the view `source`."""
    connection.execute(prepared.before)
    portions = _portions(rows, _ROWS_PREPARED)
    first = next(portions, iter(()))  # without rows, a file without rows
    for number, portion in enumerate(chain([first], portions)):
        connection.register("stream", feed.reader(rows.schema, portion))
        connection.execute(
            f"copy ({prepared.query}) to {quote(f'{place}/{number}.parquet')} "
            f"(row_group_size {_ROWS_HELD})"
        )
    connection.execute(f"create view source as from {quote(f'{place}/*.parquet')}")


def _portions(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the batches in portions of so many rows; each must be read before the next."""
    left = iter(batches)
    for first in left:
        yield _portion(first, left, most)


def _portion(
    first: pa.RecordBatch, left: Iterator[pa.RecordBatch], most: int
) -> Iterator[pa.RecordBatch]:
    rows, size = first.num_rows, first.nbytes
    yield first
    while rows < most and size < max(_BYTES_A_FILE, rows * _LONG_ROW_BYTES):
        if (batch := next(left, None)) is None:
            return
        rows, size = rows + batch.num_rows, size + batch.nbytes
        yield batch


def rows_of(run: Run, batch: Batch) -> str:
    """Return a query of a batch's staged rows."""
    paths = [file.path for file in batch.files]
    return read_files(attempt_folder(run, batch), paths, CONTRACTS[batch.table].schema)


def refusals_of(run: Run, batch: Batch) -> str:
    """Return a query of the batch's records that could not be parsed."""
    paths = [file.path for file in batch.letters]
    return read_files(f"{attempt_folder(run, batch)}/{_REFUSED}", paths, REFUSED_SCHEMA)


def check_files(run: Run, batch: Batch) -> None:
    """Compare the batch's files with its manifest.

    Raises:
        StageDamagedError: A file is missing or has changed.
        LakeError: The disk or store failed.
    """
    folder = attempt_folder(run, batch)
    for path, digest in batch.digests.items():
        with storage_errors(f"checking staged files of {batch.table}"):
            found = _digest(f"{folder}/{path}")
        if found != digest:
            raise StageDamagedError(
                expected=f"the staged file with SHA-256 {digest[:12]}…",
                came=f"{found[:12]}",
                where=f"{path} of table {batch.table}, run {run.run_id}",
            )


def _digest(place: str) -> str:
    try:
        with storage.open_file(place) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "no file"


def _bounds(connection: DuckDBPyConnection, rows: str, event_time: str | None) -> list[str] | None:
    if event_time is None:
        return None
    column = identifier(event_time)
    (low, high), *_ = connection.execute(
        f"select cast(min({column}) as varchar), cast(max({column}) as varchar) from ({rows})"
    ).fetchall()
    return None if low is None else [low, high]
