"""Rows per second from PostgreSQL to a published hour, beside what PostgreSQL itself can give.

`python -m benchmarks.ingest [--json PATH] [--rows 10000000]` starts a PostgreSQL of its own, fills
one hour, and times in one run: `COPY … TO STDOUT (FORMAT binary)` into nothing, extract (staged
Parquet and manifest) and publish (split, dead letters, commit, read back). The rules of GX are
measured by `benchmarks` of the gates. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.records import Record, hand_on
from include.chimera.paths import PROJECT
from tests.integration.ingest.pipeline import create_schema, extract, many, publish, run_of
from tests.integration.ingest.servers import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--child", help="libpq URI: measure the pipeline and print JSON")
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(_pipeline(options.child)))
        return
    hand_on((record for rows in options.rows for record in _compare(rows)), options.json)


def _compare(rows: int) -> Iterator[Record]:
    server = PostgresServer()
    server.start()
    try:
        create_schema(server)
        server.execute(many(0, rows).replace("'1 ms'", f"'{3_590_000 / rows} ms'"))
        copy = min(_copy(server) for _ in range(3))
        found = _child(server.uri())
    finally:
        server.remove()
    name, total = f"{rows:,} rows", found["extract"] + found["publish"]
    yield Record(f"whole hour of {name}", "COPY binary", total / copy, total, "s", 8)
    for step in ("extract", "publish"):
        yield Record(f"{step}, {name}", "COPY binary", found[step] / copy, found[step], "s")
    peak = found["peak_mb"]
    yield Record(f"memory of ingestion, {name}", "limit 512 MiB", peak / 512, peak, "MiB", 1)


def _copy(server: PostgresServer) -> float:
    """Time the copy of all rows into nothing, by a client that only reads bytes."""
    import psycopg  # noqa: PLC0415 - only this comparison needs it

    with psycopg.connect(server.uri()) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        with cursor.copy("copy app.generations to stdout (format binary)") as rows:
            for _ in rows:
                pass
        return time.perf_counter() - started


def _child(uri: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as state:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [sys.executable, "-m", "benchmarks.ingest", "--child", uri],
            cwd=PROJECT,
            env={"CHIMERA_STATE_DIR": state},
            check=True,
            stdout=subprocess.PIPE,
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _pipeline(uri: str) -> dict[str, float]:
    """Time one hour in this process, warmed up by an empty one."""
    extract(uri, run_of(9))
    publish(run_of(9))
    started = time.perf_counter()
    batch = extract(uri, run_of(0, moves_watermark=False))
    staged = time.perf_counter()
    published = publish(run_of(0, moves_watermark=False))
    ended = time.perf_counter()
    if published.rows_published != batch.rows_read:
        sys.stderr.write(f"{published}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"extract": staged - started, "publish": ended - staged, "peak_mb": peak}


if __name__ == "__main__":
    main()
