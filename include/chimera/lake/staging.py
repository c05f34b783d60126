"""Extract's side of the lake: rows of a source written down for their gate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import CONTRACTS, PARTITION
from include.chimera.lake.engine import connect
from include.chimera.lake.files import write_files
from include.chimera.lake.relations import read_files
from include.chimera.lake.stage import Batch, load_batch, save, table_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.chimera.window import Run

REFUSED_SCHEMA = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("coordinates", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field(PARTITION, pa.string()),
    ]
)


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
    """
    folder = str(table_folder(run, batch.table))
    schema = CONTRACTS[batch.table].schema
    columns = ", ".join(f'"{name}"' for name in schema.names)
    with connect() as connection:
        connection.register("source", rows)
        files = write_files(connection, f"select {columns} from ({query})", folder, schema)
        letters = pa.RecordBatchReader.from_batches(REFUSED_SCHEMA, refused)
        connection.register("refused", letters)
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
