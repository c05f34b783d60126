"""What an hour of a model costs as its table's history grows.

`python -m benchmarks.history [--json PATH] [--hours 10 100 1000]`. A parent and a model over it
hold so many hours, each committed by itself, as the schedule does. Then a new hour arrives, and
`dbt build` of the model, in a process that has dbt loaded, replaces exactly that hour: its CPU
seconds are the whole command's. The sizes take turns, several rounds, the least of each counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from benchmarks.records import Record, hand_on
from include.chimera.paths import DBT_PROJECT
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

SIZES = (10, 100, 1000)
ROUNDS = 6  # the first one warms up
ROWS = 1000
GOAL = 1.2
START = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = """
{{ config(materialized='incremental', incremental_strategy='replace_window',
          partition_by='_window_hour') }}
select _window_hour, model_id, count(*) as requests, sum(latency_ms) as latency_ms
from {{ source('bronze', 'requests') }}
{% if is_incremental() %}where {{ touched('_window_hour') }}{% endif %}
group by all
"""
SOURCES = {"sources": [{"name": "bronze", "tables": [{"name": "requests"}]}]}


def label(number: int) -> str:
    """Return the label of the hour of this number."""
    return (START + timedelta(hours=number)).strftime("%Y%m%dT%H")


@contextmanager
def lake(folder: Path) -> Iterator[None]:
    """Let this process use the lake in a folder."""
    os.environ["CHIMERA_STATE_DIR"] = str(folder)  # noqa: TID251 - before the settings are read
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@contextmanager
def session(folder: Path) -> Iterator[DuckDBPyConnection]:
    """Open a session on the lake in a folder."""
    from include.chimera.lake.store.duckdb_sessions import connect  # noqa: PLC0415 - not before a fork

    with lake(folder), connect() as connection:
        yield connection


def add_hour(
    connection: DuckDBPyConnection, table: str, query: str, hour: str, **marks: int
) -> DeltaTable:
    """Commit an hour of rows as a publication does; return the table."""
    from include.chimera.lake.delta.columns import arrow_schema  # noqa: PLC0415 - settings come first
    from include.chimera.lake.delta.commits import Change, commit  # noqa: PLC0415 - settings come first
    from include.chimera.lake.delta.lineage import metadata_of  # noqa: PLC0415 - settings come first
    from include.chimera.lake.delta.parquet_files import write_files  # noqa: PLC0415 - settings come first
    from include.chimera.lake.delta.partitions import Partitions  # noqa: PLC0415 - settings come first
    from include.chimera.lake.delta.tables import create_table  # noqa: PLC0415 - settings come first
    from include.chimera.lake.store.places import folder_of  # noqa: PLC0415 - settings come first

    by = ["_window_hour"]
    columns = arrow_schema(connection, query)
    files = write_files(connection, query, folder_of(table), columns, by)
    change = Change(files, Partitions(by[0], (hour,)), marks, metadata_of([hour], [hour]))
    done, _ = commit(table, lambda: create_table(table, columns, by), lambda _: change)
    return done


def requests_of(number: int) -> str:
    """Return a query of an hour's requests."""
    return (
        f"select i as id, i % 20 as model_id, (i * 7919 % 1003)::double as latency_ms, "
        f"'{label(number)}' as _window_hour from range({ROWS}) r(i)"
    )


def fill(folder: Path, hours: int) -> None:
    """Make a project, its parent and its model with so many hours."""
    files = {
        "dbt_project.yml": {
            "name": "history",
            "profile": "history",
            "macro-paths": [str(DBT_PROJECT / "macros" / "lake")],
            "flags": {"send_anonymous_usage_stats": False},
        },
        "profiles.yml": {
            "history": {
                "target": "dev",
                "outputs": {
                    "dev": {
                        "type": "duckdb",
                        "schema": "dev",
                        "plugins": [
                            {"module": "include.chimera.lake.dbt_plugin.plugin", "alias": "lake"}
                        ],
                    }
                },
            }
        },
        "models/sources.yml": SOURCES,
    }
    from include.chimera.lake.delta.lineage import (  # noqa: PLC0415 - settings come first
        consumed_mark,
        identity_of,
    )

    (folder / "models").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    (folder / "models" / "hourly.sql").write_text(MODEL)
    with session(folder) as connection:
        for number in range(hours):
            query = requests_of(number)
            parent = add_hour(connection, "bronze.requests", query, label(number))
            mark = consumed_mark(identity_of("bronze.requests", parent))
            add_hour(
                connection,
                "dev.hourly",
                "select _window_hour, model_id, count(*) as requests, "
                f"sum(latency_ms) as latency_ms from ({query}) group by all",
                label(number),
                **{mark: parent.version()},
            )


def arrive(folder: Path, number: int) -> None:
    """Let an hour of requests arrive."""
    with session(folder) as connection:
        add_hour(connection, "bronze.requests", requests_of(number), label(number))


def in_process(work: Callable[[Path, int], None], folder: Path, number: int) -> None:
    """Do work in a process of its own: this one must not start delta-rs' threads, as it forks."""
    child = multiprocessing.get_context("spawn").Process(target=work, args=(folder, number))
    child.start()
    child.join()
    if child.exitcode:
        sys.exit("no history to measure on")


def build(folder: Path) -> float:
    """Run `dbt build` in a forked process that has dbt loaded; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        with lake(folder):
            os.dup2(os.open(folder / "dbt.out", os.O_CREAT | os.O_WRONLY), 1)
            done = invoke(folder, "build", "--no-populate-cache", "--no-write-json")
        os._exit(0 if done else 1)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit((folder / "dbt.out").read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def invoke(folder: Path, *command: str) -> bool:
    """Run a dbt command in this process; tell whether it succeeded."""
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 - settings come first

    place = str(folder)
    os.environ["DBT_LOG_PATH"] = place  # noqa: TID251 - dbt reads it
    os.environ["DBT_TARGET_PATH"] = f"{place}/target"  # noqa: TID251 - as above
    flags = ("--quiet", "--project-dir", place, "--profiles-dir", place)
    return dbtRunner().invoke([*command, *flags]).success


def measure(root: Path, sizes: list[int]) -> dict[int, float]:
    """Return the least CPU seconds of one more hour, by hours of history."""
    from include.chimera.lake.store.duckdb_sessions import check_signatures  # noqa: PLC0415 - as above

    check_signatures()  # as the process does that forks tasks
    best: dict[int, float] = {}
    for hours in sizes:
        in_process(fill, root / str(hours), hours)
        sys.stderr.write(f"filled {hours} hours\n")
        with lake(root / str(hours)):
            invoke(root / str(hours), "parse")  # each build then starts from a partial parse
    for number in range(ROUNDS):
        for hours in sizes:
            folder = root / str(hours)
            in_process(arrive, folder, hours + number)
            seconds = build(folder)
            sys.stderr.write(f"{number} {hours:5} hours {seconds:7.3f} s\n")
            if number:
                best[hours] = min(seconds, best.get(hours, seconds))
    return best


def main() -> None:
    """Measure and hand on the curve: each size beside the shortest history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hours", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="chimera-bench-"))
    try:
        best = measure(root, list(options.hours))
    finally:
        shutil.rmtree(root)
    first = min(best)
    hand_on(
        [
            Record(
                f"one hour on {hours:,} hours of history",
                f"on {first}",
                seconds / best[first],
                seconds,
                "s",
                GOAL,
            )
            for hours, seconds in best.items()
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
