"""Extract's side of the lake: rows of a source written down for their gate."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.lake.engine import connect
from include.chimera.lake.files import write_files
from include.chimera.lake.relations import read_files
from include.chimera.lake.stage import Batch, load_batch, save, table_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.chimera.window import Run

REFUSED_SCHEMA = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("coordinates", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field(PARTITION, pa.string()),
    ]
)


@dataclass
class _Feed:
    """Batches on their way into DuckDB, which would turn an error of theirs into one of its own."""

    failures: list[BaseException] = field(default_factory=list)

    def reader(self, schema: pa.Schema, rows: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
        """Return the rows as a reader that remembers what it raised."""
        return pa.RecordBatchReader.from_batches(schema, self._watched(rows))

    def _watched(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except BaseException as error:
            self.failures.append(error)
            raise

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise what the rows raised instead of what DuckDB made of it."""
        try:
            yield
        except duckdb.Error as error:
            raise self.failures[0] if self.failures else error from None


def stage_rows(
    run: Run,
    batch: Batch,
    rows: pa.RecordBatchReader,
    query: str = "from source",
    refused: Iterable[pa.RecordBatch] = (),
) -> Batch:
    """Write a source's rows and refused records as Parquet, then the manifest.

    Args:
        run: The run that reads the source.
        batch: What is known before reading; counts and files are filled in.
        rows: The source's rows; they stream through, never whole in memory.
        query: DuckDB query over `source` that gives the contract's columns.
        refused: Batches of `REFUSED_SCHEMA`, read after `rows` is used up.

    Raises:
        ChimeraError: What reading the source raised, as it was raised.
    """
    folder = str(table_folder(run, batch.table))
    schema = CONTRACTS[batch.table].schema
    columns = ", ".join(f'"{name}"' for name in schema.names)
    feed = _Feed()
    with connect() as connection, feed.own_errors():
        connection.register("source", feed.reader(rows.schema, rows))
        files = write_files(connection, f"select {columns} from ({query})", folder, schema)
        connection.register("refused", feed.reader(REFUSED_SCHEMA, refused))
        letter_files = write_files(connection, "from refused", f"{folder}/refused", REFUSED_SCHEMA)
    unparsed = sum(file.rows for file in letter_files)
    staged = replace(
        batch,
        files=files,
        letters=letter_files,
        rows_unparsed=unparsed,
        rows_read=sum(file.rows for file in files) + unparsed,
    )
    save(run, staged)
    return staged


def staged_rows(run: Run, table: str) -> str:
    """Return a query of the rows that this run staged for a bronze table."""
    paths = [file.path for file in load_batch(run, table).files]
    return read_files(str(table_folder(run, table)), paths, CONTRACTS[table].schema)


def staged_refusals(run: Run, table: str) -> str:
    """Return a query of the records that extract could not parse."""
    paths = [file.path for file in load_batch(run, table).letters]
    return read_files(f"{table_folder(run, table)}/refused", paths, REFUSED_SCHEMA)
