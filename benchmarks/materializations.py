"""Compare the lake's materializations with DuckDB's own writers, as ratios.

Run: `make bench` (1 M rows), or `.venv/bin/python -m benchmarks.materializations --rows 10000000`.
Each measurement is the best of three in this process, after one to warm up; the unit is DuckDB's
`COPY … TO parquet` with the same compression. dbt itself is not part of it: what is compared is the
work that a model's build adds to its query.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duckdb import DuckDBPyConnection

ROUNDS = 3


def rows(count: int, offset: int = 0, hours: int = 1000) -> str:
    """Return a query of `count` rows in `hours` partitions."""
    return (
        f"select i as id, i % 97 as model_id, 'user-' || (i % 5000) as user_id, "
        f"(i * 7919 % 100003) / 100.0 as latency_ms, i % 4096 as tokens, "
        f"timestamp '2026-01-01' + interval (i % 86400) second as created_at, "
        f"i % 50 = 0 as is_failed, 'h' || lpad((i * {hours} // {count + offset})::varchar, 4, '0') "
        f"as hour from range({offset}, {count + offset}) r(i)"
    )


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest round."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def native(connection: DuckDBPyConnection, folder: Path, count: int) -> Iterator[tuple[str, float]]:
    """Measure DuckDB's own ways to keep a table."""
    query = rows(count)
    target = folder / "copy.parquet"
    yield (
        "COPY to parquet, zstd",
        best(lambda: connection.execute(f"copy ({query}) to '{target}' (compression zstd)")),
    )
    connection.execute(f"attach '{folder / 'native.duckdb'}' as kept")
    yield (
        "native table",
        best(lambda: connection.execute(f"create or replace table kept.model as {query}")),
    )
    external = folder / "external.parquet"
    yield (
        "external parquet, through a table",
        best(
            lambda: (
                connection.execute(f"create or replace temp table model as {query}"),
                connection.execute(f"copy model to '{external}'"),
            )
        ),
    )


def lake(count: int) -> Iterator[tuple[str, float]]:
    """Measure the lake's strategies."""
    from include.chimera.lake.engine import connect  # noqa: PLC0415 - settings come first
    from include.chimera.lake.orders import Order  # noqa: PLC0415
    from include.chimera.lake.rewrites import Rewrite  # noqa: PLC0415
    from include.chimera.lake.session import Session  # noqa: PLC0415

    connection, session = connect(), Session(None)
    session.attach(connection)

    def build(query: str, how: str | Rewrite, table: str, by: tuple[str, ...] = ()) -> None:
        connection.execute(f"create or replace temp view incoming as {query}")
        session.write(connection, Order(table, "incoming", how, partition_by=by))

    few = count // 100
    merge = Rewrite("merge", ("id",))
    yield "lake: table", best(lambda: build(rows(count), "all", "bench.whole"))
    yield (
        "lake: append of 1 %",
        best(lambda: build(rows(few, count), Rewrite("append"), "bench.whole")),
    )
    build(rows(count), "all", "bench.whole")
    yield (
        "lake: merge of 1 %, no partitions",
        best(lambda: build(rows(few, count // 2), merge, "bench.whole")),
    )
    build(rows(count), "all", "bench.hourly", ("hour",))
    hour = f"select * from ({rows(count)}) where hour = 'h0500'"
    yield (
        "lake: one hour of 1,000 replaced",
        best(lambda: build(hour, Rewrite("delete+insert", ("hour",)), "bench.hourly")),
    )


def main() -> None:
    """Print one line per measurement: seconds, and the ratio to COPY."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as root:
        os.environ["CHIMERA_STATE_DIR"] = root  # noqa: TID251 - before the settings are read
        from include.chimera.lake.engine import connect  # noqa: PLC0415 - settings come first

        found = [*native(connect(), Path(root), count), *lake(count)]
    unit = found[0][1]
    for name, seconds in found:
        sys.stdout.write(f"{name:40} {seconds:8.3f} s {seconds / unit:6.2f} x\n")


if __name__ == "__main__":
    main()
