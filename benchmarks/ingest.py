"""Rows per second from PostgreSQL to a published hour, beside what PostgreSQL itself can give.

`python -m benchmarks.ingest [--json PATH] [--rows 10000000]` starts a PostgreSQL of its own, fills
one hour, and times in one run: `COPY … TO STDOUT (FORMAT binary)` into nothing, extract (staged
Parquet and manifest), publish (split, dead letters, commit, read back), and for the smallest hour
dlt's sql_table to Delta, in an environment of its own, and the same hour in LiteLLM's own table.
The rules of GX are measured by `benchmarks.gates`. Peak memory is that of a process of its own; the
faster of two runs counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.environments import peer_python
from benchmarks.records import Record, hand_on, peak_mib
from include.chimera.local.servers.environment import MALLOC
from include.chimera.paths import PROJECT
from tests.integration.ingest.pipeline import at, create_schema, extract, many, publish, run_of
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
        theirs = _fill_litellm(server, rows)
        litellm = min((_child(theirs, "litellm") for _ in range(2)), key=_seconds)
    finally:
        server.remove()
    found = min(runs, key=_seconds)
    name, total = f"{rows:,} rows", _seconds(found)
    yield Record(f"whole hour of {name}", "COPY binary", total / copy, total, "s", 8)
    for step in ("extract", "publish"):
        yield Record(f"{step}, {name}", "COPY binary", found[step] / copy, found[step], "s")
    peak = found["peak_mb"]
    yield Record(f"memory of ingestion, {name}", "limit 512 MiB", peak / 512, peak, "MiB", 1)
    yield Record(f"rows per second, {name}", "COPY binary", copy / total, rows / total, "rows/s")
    hour = _seconds(litellm)
    yield Record(f"LiteLLM's hour of {name}", "app.generations", hour / total, hour, "s", 1.3)
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


def _seconds(run: dict[str, float]) -> float:
    return run["extract"] + run["publish"]


def _fill_litellm(server: PostgresServer, rows: int) -> str:
    """Fill LiteLLM's own table with an hour like the other; return its database's URI.

    Each row has two kilobytes of metadata, as its own have.
    """
    from tests.integration.profiles.litellm import Database  # noqa: PLC0415 - a development package

    database = Database(server)
    database.query(
        'insert into "LiteLLM_SpendLogs" (request_id, call_type, "startTime", "endTime", '
        '"completionStartTime", model, custom_llm_provider, "user", session_id, metadata, '
        "request_tags, spend, prompt_tokens, completion_tokens, total_tokens, status, "
        "request_duration_ms) select 'chatcmpl-' || gen_random_uuid(), 'acompletion', m, m, m, "
        "'m', 'p', md5(n::text), md5(n::text), jsonb_build_object('status', 'success', "
        "'model_map_information', (select string_agg(md5((n + i)::text), '') "
        "from generate_series(1, 64) as i)), '[]', 0.1, n % 997, n % 997, 2 * (n % 997), "
        f"'success', n % 997 from (select n, ({at(0)} at time zone 'UTC') "
        f"+ n * interval '{3_590_000 / rows} ms' as m from generate_series(1, {rows}) as n) as t"
    )
    database.query("analyze")
    uri: str = database.uri()
    return uri


def _child(uri: str, profile: str = "chimera") -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as state:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [sys.executable, "-m", "benchmarks.ingest", "--child", uri],
            cwd=PROJECT,
            # With the allocator's settings that the tasks have.
            env={"CHIMERA_STATE_DIR": state, "CHIMERA_PROFILE": profile, **MALLOC},
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
    peak = peak_mib()
    return {"extract": staged - started, "publish": ended - staged, "peak_mb": peak}


if __name__ == "__main__":
    main()
