"""What a whole hour costs: wall from its trigger, CPU, memory, each stage, the chain of its tasks.

`python -m benchmarks.hours [--json PATH] [--rows 10000 100000]`. Each hour is a `make run` from an
empty state folder with real servers; the first size also runs without the warm start, as a peer.
Beside the JSON, `hour-<rows>.svg` draws the tasks over time; those of the chain are red.
CPU is of the whole command, servers and sample application included. The peer of the transform
stage is one `dbt build` by a developer: the same models and tests from the same published bronze.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from benchmarks.models import dbt_build
from benchmarks.records import Record, hand_on
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_BYTES = 4 << 30
LIMIT_START_MEDIAN, LIMIT_START_WORST = 2.0, 30.0
LIMIT_TRANSFORM = 2.0
LIMIT_CPU = 0.8
LIMIT_SECONDS = {10_000: 60, 100_000: 60, 1_000_000: 180, 10_000_000: 600}


def run_hour(rows: int, **variables: str) -> tuple[dict[str, Any], float, float]:
    """Run one hour; return its report, the whole command's CPU seconds, one `dbt build`'s wall."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,  # noqa: TID251 - a child inherits
            "CHIMERA_STATE_DIR": str(Path(folder) / "state"),
            "CHIMERA_ROWS_PER_HOUR": str(rows),
            **variables,
        }
        done = subprocess.run(
            [sys.executable, "-m", "include.chimera", "run", "--json"],
            cwd=PROJECT,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        _, build = dbt_build("dev", environment=environment)  # into schemas of its own
        return told, cpu, build


def start_delays(tasks: list[dict[str, Any]]) -> list[float]:
    """Return the seconds from queued to running of each task that ran."""
    return [
        (
            datetime.fromisoformat(task["start_at"]) - datetime.fromisoformat(task["queued_at"])
        ).total_seconds()
        for task in tasks
        if task["start_at"] and task["queued_at"]
    ]


def spans(tasks: list[dict[str, Any]]) -> list[tuple[datetime, datetime, str]]:
    """Return start, end and id of each task that did something, in order of their starts."""
    found = [
        (datetime.fromisoformat(task["start_at"]), datetime.fromisoformat(task["end_at"]), task_id)
        for task in tasks
        if task["start_at"] and task["end_at"] and (task_id := task["task_id"])
    ]
    return sorted(span for span in found if span[0] != span[1])


def chain(tasks: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return the tasks that decided the end, in order: id, seconds before it, its own seconds.

    Before each task stands the one that ended last before it began: what it waited for, if only
    for a free slot.
    """
    ran = spans(tasks)
    found: list[tuple[str, float, float]] = []
    last = max(ran, key=lambda span: span[1])
    while True:
        start, end, task_id = last
        earlier = [span for span in ran if span[1] <= start]
        before = max(earlier, key=lambda span: span[1]) if earlier else None
        waited = (start - before[1]).total_seconds() if before else 0.0
        found.append((task_id, waited, (end - start).total_seconds()))
        if before is None:
            return found[::-1]
        last = before


def draw(tasks: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw the tasks over the hour's seconds as an SVG file, those of the chain in red."""
    ran, decided = spans(tasks), {task_id for task_id, *_ in chain(tasks)}
    first, whole = ran[0][0], (max(span[1] for span in ran) - ran[0][0]).total_seconds()
    table = Table("task", "from", "seconds", f"of {whole:.1f} s", title=title, padding=(0, 1))
    for start, end, task_id in ran:
        begin, seconds = (start - first).total_seconds(), (end - start).total_seconds()
        color = "red" if task_id in decided else "blue"
        bar = Bar(whole, begin, begin + seconds, width=72, color=color)
        table.add_row(task_id, f"{begin:.1f}", f"{seconds:.1f}", bar)
    console = Console(record=True, width=140, file=StringIO())
    console.print(table)
    console.save_svg(str(path), title="make bench")


def describe(rows: int, told: dict[str, Any], cpu: float, build: float) -> Iterator[Record]:
    """Yield the lines of one hour."""
    hour, name = told["hours"][0], f"{rows:,} generations"
    limit, seconds = LIMIT_SECONDS.get(rows, 600), hour["seconds"]
    yield Record(f"hour of {name}", f"limit {limit} s", seconds / limit, seconds, "s", 1)
    peak = told["costs"]["peak_bytes"]
    yield Record(f"memory, {name}", "limit 4 GiB", peak / LIMIT_BYTES, peak / 2**20, "MiB", 1)
    wall = told["costs"]["wall_seconds"]
    share = cpu / wall / (os.cpu_count() or 1)
    yield Record(f"CPU of the command, {name}", "all cores", share, cpu, "s")
    share = cpu / 3600 / (os.cpu_count() or 1)
    peer = "limit 80 % over an hour"
    yield Record(f"CPU, {name}, hourly", peer, share / LIMIT_CPU, share * 100, "%", 1)
    for stage in hour["stages"]:
        yield Record(
            f"{stage['name']}, {name}",
            "the hour",
            stage["seconds"] / seconds,
            stage["seconds"],
            "s",
        )
    (transform,) = (s["seconds"] for s in hour["stages"] if s["name"] == "transform")
    peer, ratio = f"one dbt build of {name}", transform / build
    yield Record("transform stage", peer, ratio, transform, "s", LIMIT_TRANSFORM)
    delays = start_delays(hour["tasks"])
    median, worst = statistics.median(delays), max(delays)
    peer = f"limit {LIMIT_START_MEDIAN:.0f} s"
    yield Record("queued to running, median", peer, median / LIMIT_START_MEDIAN, median, "s", 1)
    peer = f"limit {LIMIT_START_WORST:.0f} s"
    yield Record("queued to running, worst", peer, worst / LIMIT_START_WORST, worst, "s", 1)
    steps = chain(hour["tasks"])
    waits = sum(waited for _, waited, _ in steps)
    yield Record(f"waits in a chain of {len(steps)} tasks", "the hour", waits / seconds, waits, "s")
    for task_id, waited, own in steps:
        sys.stderr.write(f"{waited:6.1f} s wait {own:6.1f} s {task_id}\n")


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args()
    found: list[Record] = []
    for number, rows in enumerate(options.rows):
        told, cpu, build = run_hour(rows)
        found += describe(rows, told, cpu, build)
        if options.json:
            picture = options.json.with_name(f"hour-{rows}.svg")
            draw(told["hours"][0]["tasks"], picture, f"An hour of {rows:,} generations")
        if number == 0:
            cold, *_ = run_hour(rows, CHIMERA_WARM_START="false")
            warm, peer = found[0].value, cold["hours"][0]["seconds"]
            found.append(Record(f"hour of {rows:,}", "without warm start", warm / peer, warm, "s"))
    hand_on(found, options.json)


if __name__ == "__main__":
    main()
