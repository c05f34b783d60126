"""Compare the lake's materializations with DuckDB's own writers and with duckrun.

`python -m benchmarks.materializations [--json PATH] [--rows 1000000]`. Each peer is a process that
stays (`peers.py`); they take turns step by step, several rounds, the fastest counts. A table is
compared with DuckDB's `COPY … TO parquet` of the same compression, everything else with who else
can do it. dbt itself is not part of it: what is compared is the work that a model's build adds to
its query. duckrun gets an environment of its own in `.chimera/bench`; without it, it is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from benchmarks.environments import peer_python
from benchmarks.peers import PEERS
from benchmarks.records import Record, hand_on
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 4  # the first one warms up
STEPS = {
    "table": "full table",
    "append": "append of 1 %",
    "merge": "merge of 1 %",
    "hourly": "table of 1,000 hours",
    "replace": "one hour of 1,000 replaced",
    "short": "table of 10 hours",
    "replace_short": "one hour of 10 replaced",
}
GOALS = {
    ("table", "copy"): 1.2,
    ("table", "native"): 1.0,
    ("table", "duckrun"): 1 / 3,
    ("replace", "duckrun"): 1 / 3,
    ("append", "duckrun"): 1.0,
    ("merge", "duckrun"): 1.0,
}
DUCKRUN = ("duckrun==0.5.7",)
NEEDED = (
    *(f"duckdb=={duckdb.__version__}", f"duckdb-extension-delta=={duckdb.__version__}"),
    *("deltalake==1.5.0", "obstore>=0.5", "azure-identity", "requests", "packaging", "pyyaml"),
)


class Process:
    """A peer that waits for steps."""

    def __init__(self, name: str, python: str, folder: Path, count: int) -> None:
        folder.mkdir()
        self.name = name
        self.child = subprocess.Popen(  # noqa: S603 - our own command
            [python, str(PROJECT / "benchmarks" / "peers.py"), name, str(folder), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, step: str) -> dict[str, Any]:
        """Let it do a step; empty where it can't, or has died: its errors say why."""
        if self.child.poll() is not None:
            return {}
        assert self.child.stdin  # noqa: S101 - it is a pipe
        assert self.child.stdout  # noqa: S101 - as above
        self.child.stdin.write(step + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer


def measure(count: int) -> dict[str, dict[str, Any]]:
    """Return, by peer, the best seconds of each step, the table's bytes, the peak MiB."""
    # duckrun's own pins ask for a newer DuckDB: what it needs besides is installed first.
    duckrun = peer_python("duckrun", NEEDED, ["--no-deps", *DUCKRUN])
    pythons = {name: duckrun if name == "duckrun" else sys.executable for name in PEERS}
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as root:
        peers = [
            Process(name, python, Path(root) / name, count)
            for name, python in pythons.items()
            if python
        ]
        found: dict[str, dict[str, Any]] = {peer.name: {} for peer in peers}
        for number in range(ROUNDS):
            for step in STEPS:
                for peer in peers:
                    answer = peer.ask(step)
                    if not answer:
                        continue
                    sys.stderr.write(
                        f"{number} {step:8} {peer.name:9} {answer['seconds']:7.3f} s\n"
                    )
                    if step == "table" and number == 0:
                        found[peer.name]["bytes"] = answer["bytes"]
                    if number:
                        best = found[peer.name].get(step, answer["seconds"])
                        found[peer.name][step] = min(best, answer["seconds"])
        for peer in peers:
            found[peer.name] |= peer.ask("end")
            peer.child.communicate()
    return found


def compare(found: dict[str, dict[str, Any]], count: int) -> Iterator[Record]:
    """Yield a line for each step and peer that can do it, then memory and bytes."""
    ours = found["lake"]
    for step, title in STEPS.items():
        for peer, theirs in found.items():
            if peer != "lake" and step in theirs:
                yield Record(
                    f"{title}, {count:,} rows",
                    peer,
                    ours[step] / theirs[step],
                    ours[step],
                    "s",
                    GOALS.get((step, peer)),
                )
    yield Record(
        f"{STEPS['replace']}, {count:,} rows",
        STEPS["replace_short"],
        ours["replace"] / ours["replace_short"],
        ours["replace"],
        "s",
        1.2,
    )
    for peer, theirs in found.items():
        if peer != "lake" and "mib" in theirs:
            yield Record("peak memory", peer, ours["mib"] / theirs["mib"], ours["mib"], "MiB")
            size = ours["bytes"] / 2**20
            yield Record("bytes of the table", peer, ours["bytes"] / theirs["bytes"], size, "MiB")


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    hand_on(compare(measure(options.rows), options.rows), options.json)


if __name__ == "__main__":
    main()
