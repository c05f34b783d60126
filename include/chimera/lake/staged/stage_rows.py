"""Stage a source's rows and refused records as Parquet files, for their gate."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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
from include.chimera.lake.store.duckdb_sessions import connect, identifier
from include.chimera.lake.store.storage_errors import storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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


def stage_rows(  # noqa: PLR0913 - each has its own meaning
    run: Run,
    batch: Batch,
    rows: pa.RecordBatchReader,
    *,
    query: str = "from source",
    refused: Callable[[], Iterable[pa.RecordBatch]] = tuple,
    omitted: Callable[[], int] = int,
    is_met_again: bool = False,
    is_rowwise: bool = False,
    is_read_again: bool = False,
) -> Batch:
    """Write a source's rows and refused records as Parquet, then the manifest.

    Args:
        run: The run that reads the source.
        batch: What is known before reading; counts and files are filled in.
        rows: The source's rows; they are streamed, never all in memory.
        query: DuckDB query over `source` that returns the contract's columns.
        refused: Returns batches of `REFUSED_SCHEMA`; called once `rows` is exhausted.
        omitted: Returns how many refused records have no letter of their own; called after
            `refused`.
        is_met_again: Whether every run meets the same refused records; known ones are not counted.
        is_rowwise: Whether each result row comes from one source row; then the query runs on
            portions.
        is_read_again: Whether the query reads `source` more than once; then it is a table, which
            can spill to the disk as a CTE can't.

    Raises:
        ChimeraError: Reading the source failed; its error, unchanged.
        LakeError: The staged files can't be written.
    """
    with storage_errors(f"staging {batch.table}"):
        portions = _portions(rows) if is_rowwise else [rows]
        staged = _write(
            run, batch, rows.schema, portions, query, refused, is_met_again, is_read_again
        )
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
    schema: pa.Schema,
    portions: Iterable[Iterable[pa.RecordBatch]],
    query: str,
    refused: Callable[[], Iterable[pa.RecordBatch]],
    is_met_again: bool,
    is_read_again: bool,
) -> Batch:
    contract = CONTRACTS[batch.table]
    folder = attempt_folder(run, batch)
    columns = ", ".join(identifier(name) for name in contract.schema.names)
    feed, files = _Feed(), []
    with connect() as connection, feed.own_errors():
        connection.execute(f"set partitioned_write_flush_threshold = {_ROWS_HELD}")
        selected, by = f"select {columns} from ({query})", contract.partition_by
        for rows in portions:
            connection.register("stream" if is_read_again else "source", feed.reader(schema, rows))
            if is_read_again:
                connection.execute("create or replace temp table source as from stream")
            files += write_files(connection, selected, folder, contract.schema, by)
        fault_point("extract.rows_written")
        connection.register(_REFUSED, feed.reader(REFUSED_SCHEMA, refused()))
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


def _portions(batches: Iterable[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the batches in portions of one file's size; each must be read before the next."""
    left = iter(batches)
    for first in left:
        yield _portion(first, left)


def _portion(first: pa.RecordBatch, left: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows, size = first.num_rows, first.nbytes
    yield first
    while rows < _ROWS_A_FILE and size < max(_BYTES_A_FILE, rows * _LONG_ROW_BYTES):
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


def _bounds(
    connection: duckdb.DuckDBPyConnection, rows: str, event_time: str | None
) -> list[str] | None:
    if event_time is None:
        return None
    column = identifier(event_time)
    (low, high), *_ = connection.execute(
        f"select cast(min({column}) as varchar), cast(max({column}) as varchar) from ({rows})"
    ).fetchall()
    return None if low is None else [low, high]
