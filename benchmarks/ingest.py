"""Rows per second from PostgreSQL to a published hour, beside what PostgreSQL itself can give.

`python -m benchmarks.ingest [--json PATH] [--rows 10000000]` starts a PostgreSQL of its own, fills
one hour, and times in one run: `COPY … TO STDOUT (FORMAT binary)` into nothing, extract (staged
Parquet and manifest), publish (split, dead letters, commit, read back), and for the smallest hour
dlt's sql_table to Delta, in an environment of its own. The rules of GX are measured by
`benchmarks.gates`. Peak memory is that of a process of its own; the faster of two runs counts.
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

from benchmarks.environments import peer_python
from benchmarks.records import Record, hand_on
from include.chimera.local.servers.environment import MALLOC
from include.chimera.paths import PROJECT
from tests.integration.ingest.pipeline import create_schema, extract, many, publish, run_of
from tests.integration.ingest.servers import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

DLT = ("dlt[deltalake,sql-database]==1.31.0", "psycopg[binary]")


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
    hand_on(
        (
            record
            for rows in options.rows
            for record in _compare(rows, with_dlt=rows == min(options.rows))
        ),
        options.json,
    )


def _compare(rows: int, *, with_dlt: bool) -> Iterator[Record]:
    server = PostgresServer()
    server.start()
    try:
        create_schema(server)
        server.execute(many(0, rows).replace("'1 ms'", f"'{3_590_000 / rows} ms'"))
        copy = min(_copy(server) for _ in range(3))
        runs = [_child(server.uri()) for _ in range(2)]
        dlt = _dlt(server.uri()) if with_dlt else None
    finally:
        server.remove()
    found = min(runs, key=lambda run: run["extract"] + run["publish"])
    name, total = f"{rows:,} rows", found["extract"] + found["publish"]
    yield Record(f"whole hour of {name}", "COPY binary", total / copy, total, "s", 8)
    for step in ("extract", "publish"):
        yield Record(f"{step}, {name}", "COPY binary", found[step] / copy, found[step], "s")
    peak = found["peak_mb"]
    yield Record(f"memory of ingestion, {name}", "limit 512 MiB", peak / 512, peak, "MiB", 1)
    yield Record(f"rows per second, {name}", "COPY binary", copy / total, rows / total, "rows/s")
    if dlt:
        yield Record(f"whole hour of {name}", "dlt", total / dlt["seconds"], total, "s", 1 / 3)
        yield Record(f"memory of ingestion, {name}", "dlt", peak / dlt["peak_mb"], peak, "MiB")


def _copy(server: PostgresServer) -> float:
    """Time the copy of all rows into nothing, by a client that only reads bytes."""
    import psycopg  # noqa: PLC0415 - only this comparison needs it

    with psycopg.connect(server.uri()) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        with cursor.copy("copy app.generations to stdout (format binary)") as rows:
            for _ in rows:
                pass
        return time.perf_counter() - started


def _dlt(uri: str) -> dict[str, float] | None:
    """Let dlt copy the same table; None where it can't be installed."""
    python = peer_python("dlt", DLT)
    if python is None:
        return None
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as folder:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [python, str(PROJECT / "benchmarks" / "dlt_peer.py"), uri, folder],
            check=True,
            stdout=subprocess.PIPE,
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _child(uri: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as state:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [sys.executable, "-m", "benchmarks.ingest", "--child", uri],
            cwd=PROJECT,
            env={"CHIMERA_STATE_DIR": state, **MALLOC},  # as the tasks have it
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
