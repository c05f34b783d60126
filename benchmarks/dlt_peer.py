"""The peer of `benchmarks.ingest`: dlt's sql_table to Delta, in an environment of its own.

Run as `python benchmarks/dlt_peer.py <libpq URI> <folder>`: copies `app.generations` whole, warmed
up by one chunk, and prints seconds, rows and peak memory as JSON. Nothing of the project is
imported.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"  # noqa: TID251 - before dlt reads it

import dlt
from dlt.sources.sql_database import sql_table

CHUNK = 50_000  # dlt's own default


def copy(uri: str, folder: str, name: str, chunks: int | None) -> float:
    """Copy the table, or some chunks of it, into a Delta table; return the seconds."""
    started = time.perf_counter()
    pipeline = dlt.pipeline(
        name,
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder}"),
        dataset_name=name,
        pipelines_dir=f"{folder}/pipelines",
    )
    table = sql_table(
        credentials=uri, schema="app", table="generations", backend="pyarrow", chunk_size=CHUNK
    )
    if chunks:
        table.add_limit(chunks)
    pipeline.run(table, table_format="delta", write_disposition="append").raise_on_failed_jobs()
    return time.perf_counter() - started


def main() -> None:
    """Measure."""
    answer, sys.stdout = sys.stdout, sys.stderr  # dlt may print what it likes
    uri, folder = sys.argv[1:]
    copy(uri, folder, "warm", 1)
    seconds = copy(uri, folder, "whole", None)
    from deltalake import DeltaTable  # noqa: PLC0415 - dlt has loaded it, if at all

    rows = DeltaTable(f"{folder}/whole/generations").count()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.write(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak}))


if __name__ == "__main__":
    main()
