"""Measure what a lake of many tables costs a dbt process: opened as needed, and all of them.

Run: `.venv/bin/python -m benchmarks.registration [--json results.json]`. A session starts and reads
one table, then shows all; on a local folder, and on an S3 endpoint behind 20 ms of latency.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, TypeVar

from benchmarks.records import Record, hand_on
from benchmarks.slow_store import far_away
from tests.integration.object_store import store_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyarrow.fs import S3FileSystem

T = TypeVar("T")
SIZES = (10, 50, 200)


def fill(count: int) -> None:
    """Make tables `bench.t0` and so on, all of the same content."""
    from include.chimera.lake.dbt_plugin.materializations import Order  # noqa: PLC0415 - settings come first
    from include.chimera.lake.dbt_plugin.session import Session  # noqa: PLC0415 - settings come first
    from include.chimera.lake.store.duckdb_sessions import connect  # noqa: PLC0415 - settings come first
    from include.chimera.lake.store.places import folder_of  # noqa: PLC0415 - settings come first
    from include.chimera.relation import Relation  # noqa: PLC0415 - settings come first

    connection, session = connect(), Session(None)
    session.attach(connection)
    connection.execute("create temp view batch as select i as id, now() as at_ from range(9) r(i)")
    session.write(connection, Order(Relation("bench", "t0"), "batch", "all"))
    for number in range(1, count):
        copytree(folder_of("bench.t0"), folder_of(f"bench.t{number}"))


def start_and_read() -> tuple[float, float]:
    """Return the seconds to start and read one table, and to show all the others too."""
    from include.chimera.lake.dbt_plugin.session import Session  # noqa: PLC0415 - settings come first
    from include.chimera.lake.store.duckdb_sessions import connect  # noqa: PLC0415 - settings come first

    connection, session = connect(), Session(None)
    connection.execute("select 1").fetchall()
    start = time.perf_counter()
    session.attach(connection)
    query = "from bench.t3"
    session.catalog.show_named(query)
    connection.execute(query).fetchall()
    one = time.perf_counter() - start
    session.catalog.show_all()
    return one, time.perf_counter() - start


def set_environment(variables: dict[str, str]) -> None:
    """Set variables of this process."""
    os.environ.update(variables)  # noqa: TID251 - before the settings are read


def in_a_process(work: Callable[..., T], environment: dict[str, str], *arguments: object) -> T:
    """Call a function in a process with these variables; return its answer."""
    with multiprocessing.get_context("spawn").Pool(1, set_environment, (environment,)) as pool:
        return pool.apply(work, arguments)


def put_lake(folder: Path, files: S3FileSystem, root: str) -> None:
    """Copy a local lake into the bucket, without the delay."""
    for file in folder.rglob("*"):
        if file.is_file():
            with files.open_output_stream(f"{root}/{file.relative_to(folder)}") as stream:
                stream.write(file.read_bytes())


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as root:
            local = {"CHIMERA_STATE_DIR": root}
            in_a_process(fill, local, size)
            places = {"local": in_a_process(start_and_read, local)}
            with store_server() as store, far_away(store) as far:
                lake = far.new_lake()
                place = lake["CHIMERA_LAKE_ROOT"].removeprefix("s3://")
                put_lake(Path(root) / "lake", store.files(), place)
                places["S3, 20 ms away"] = in_a_process(start_and_read, {**local, **lake})
        for place, (one, everything) in places.items():
            name = f"start and read one table of {size}, {place}"
            found.append(Record(name, "all opened", one / everything, one, "s", 1.0))
    hand_on(found, options.json)


if __name__ == "__main__":
    main()
