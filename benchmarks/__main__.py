"""`make bench`: every bench in turn, one table, JSON and a picture of the table.

Results go to `.chimera/bench/`: `bench.json` (with the machine), `bench.svg`, each bench's own
JSON, and `hour-<rows>.svg`, an hour's tasks over time. `--only` names some benches. `--check`
compares the ratios with those of `baseline.json` beside this file, which is a `bench.json` somebody
kept; the exit code says whether one is worse.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from benchmarks.records import Record
from include.chimera.paths import PROJECT, STATE

BENCHES = (
    "models", "parse", "gates", "ingest", "materializations", "history", "hours", "far_store",
    "idle", "preview",
)  # fmt: skip
FOLDER = STATE / "bench"
BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 1.25  # ratios of one run differ by up to a fifth from those of the next


def machine() -> dict[str, object]:
    """Describe where this runs; the load tells whether it was quiet."""
    return {
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1min": round(psutil.getloadavg()[0], 1),
    }


def measure(bench: str, extra: list[str]) -> list[Record]:
    """Run one bench in a process of its own; one that fails is reported and left out."""
    path = FOLDER / f"{bench}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{bench}", "--json", str(path), *extra]
    done = subprocess.run(command, cwd=PROJECT, stdout=sys.stderr, check=False)  # noqa: S603 - our own command
    if done.returncode or not path.is_file():
        sys.stderr.write(f"benchmarks.{bench} gave no result (exit code {done.returncode})\n")
        return []
    return [Record(**line) for line in json.loads(path.read_text())]


def show(records: list[Record], told: dict[str, object]) -> None:
    """Print the table, and keep its picture."""
    title = ", ".join(f"{name} {value}" for name, value in told.items())
    table = Table(title=title, title_justify="left")
    for name in ("measured", "value", "beside", "ratio", "goal", ""):
        table.add_column(name, justify="right" if name in ("value", "ratio", "goal") else "left")
    for line in records:
        table.add_row(
            line.name,
            f"{line.value:,.2f} {line.unit}",
            line.peer,
            f"{line.ratio:.2f}",
            "" if line.goal is None else f"{line.goal:.2f}",
            Bar(4, 0, min(line.ratio, 4), width=24, color="red" if line.is_missed else "green"),
        )
    console = Console(record=True, width=130)
    console.print(table)
    console.save_svg(str(FOLDER / "bench.svg"), title="make bench")


def worse(records: list[Record], baseline: list[Record]) -> list[str]:
    """Return a line for each ratio that rose beyond the tolerance, or is no longer measured."""
    found = {(record.name, record.peer): record.ratio for record in records}
    lines = []
    for was in baseline:
        ratio = found.get((was.name, was.peer))
        if ratio is None:
            lines.append(f"{was.name} beside {was.peer}: was {was.ratio:.2f}, not measured")
        elif ratio > was.ratio * TOLERANCE:
            lines.append(f"{was.name} beside {was.peer}: was {was.ratio:.2f}, is {ratio:.2f}")
    return lines


def main() -> None:
    """Run, show, keep, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=BENCHES)
    parser.add_argument("--long", action="store_true", help="hours and gates of up to 10 M rows")
    parser.add_argument("--check", action="store_true", help="compare with baseline.json")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    told = machine()
    longest = ["10000000"] if options.long else []
    sizes = {
        "hours": ["--rows", "10000", "100000", "1000000", *longest],
        "ingest": ["--rows", "1000000", *longest],
        "gates": ["--rows", "100000", "1000000", *longest],
    }
    records = [record for bench in options.only for record in measure(bench, sizes.get(bench, []))]
    lines = [{**vars(record)} for record in records]
    (FOLDER / "bench.json").write_text(json.dumps({"machine": told, "lines": lines}, indent=2))
    show(records, told)
    if options.check:
        kept = [Record(**line) for line in json.loads(BASELINE.read_text())["lines"]]
        sys.exit("\n".join(worse(records, kept)) or 0)


if __name__ == "__main__":
    main()
