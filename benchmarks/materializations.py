"""Set the lake's materializations beside DuckDB's own and duckrun's: time, memory, bytes, ratios.

Run: `.venv/bin/python -m benchmarks.materializations --json results.json [--rows 10000000]`.
Each tool has a process of its own (`peers.py`) with the same limits; the rounds of a step are
interleaved over the tools, the first one warms up, the median of the others counts. What a build
adds to its query is compared, without dbt. duckrun gets an environment beside the lock, where a
network lets it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from include.chimera.paths import PROJECT, STATE

ROUNDS = 3
DUCKRUN = ("duckrun==0.5.7", "deltalake==1.5.0", "requests", "azure-identity", "obstore",
           "packaging", "pyyaml", "pyarrow", "pandas")  # fmt: skip
# duckrun asks for DuckDB 2.0, for which there is no wheel of the delta extension.
DUCKDB = ("duckdb==1.5.5", "duckdb-extension-delta==1.5.5")
STEPS = {
    "table": "table",
    "append": "append of 1 %",
    "merge": "merge of 1 %",
    "replace": "one hour of 1,000 replaced",
}
GOALS = {
    ("table", "copy"): "<= 1.2",
    ("table", "native"): "< 1",
    ("table", "duckrun"): "<= 0.33",
    ("replace", "duckrun"): "<= 0.33",
    ("append", "duckrun"): "<= 1",
    ("merge", "duckrun"): "<= 1",
}


class Process:
    """A peer's process, which answers one step at a time."""

    def __init__(self, name: str, python: Path, folder: Path, rows: int) -> None:
        folder.mkdir()
        command = [python, PROJECT / "benchmarks" / "peers.py", name, folder, str(rows)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}  # noqa: TID251 - handed on
        if name == "duckrun":
            environment = {"PATH": os.defpath, "HOME": str(python.parent.parent)}
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            cwd=PROJECT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, step: str) -> dict[str, Any]:
        """Run a step; return its seconds and the bytes on disk, nothing where it is lacking."""
        questions, answers = self._process.stdin, self._process.stdout
        if questions is None or answers is None:
            raise BrokenPipeError
        questions.write(f"{step}\n")
        questions.flush()
        found: dict[str, Any] = json.loads(answers.readline())
        return found

    def end(self) -> float:
        """Stop the process; return its peak memory in MiB."""
        peak = float(self.ask("end")["mib"])
        self._process.communicate()
        return peak


def duckrun_python() -> Path | None:
    """Return the Python of duckrun's own environment, made where it is not there yet."""
    folder = STATE / "bench" / "duckrun"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if (folder / ".duckdb").exists():
        return python  # complete
    pip = [python, "-m", "pip", "install", "-q"]
    for packages in (DUCKRUN[1:], DUCKDB, ("--no-deps", DUCKRUN[0])):
        if subprocess.run([*pip, *packages], check=False).returncode:  # noqa: S603 - our own packages
            return None
    extensions = folder / ".duckdb" / "extensions" / "v1.5.5" / "linux_amd64"
    extensions.mkdir(parents=True, exist_ok=True)
    for binary in folder.glob("lib/python*/site-packages/duckdb_extension_delta/extensions/*/*"):
        (extensions / binary.name).write_bytes(binary.read_bytes())
    return python


def measure(peers: dict[str, Process]) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Run all steps; return the median seconds by step and peer, and a table's bytes."""
    seconds: dict[str, dict[str, float]] = {}
    size: dict[str, int] = {}

    def rounds(step: str, names: list[str]) -> None:
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS + 1):
            for name in names:
                answer = peers[name].ask(step)
                if answer:
                    found.setdefault(name, []).append(answer["seconds"])
        seconds[step] = {name: statistics.median(values[1:]) for name, values in found.items()}

    for name, peer in peers.items():
        size[name] = peer.ask("table")["bytes"]
    for step in ("table", "append", "merge"):
        rounds(step, list(peers))
    for peer in peers.values():
        peer.ask("hourly")
    rounds("replace", list(peers))
    peers["lake"].ask("short_history")
    rounds("replace_short", ["lake"])
    return seconds, size


def lines(
    count: int, seconds: dict[str, dict[str, float]], size: dict[str, int], peak: dict[str, float]
) -> list[dict[str, Any]]:
    """Return one line per comparison: the lake's value and its ratio to the peer's."""
    found = []
    for step, title in STEPS.items():
        ours = seconds[step]["lake"]
        for peer, theirs in seconds[step].items():
            if peer != "lake":
                goal = GOALS.get((step, peer), "")
                found.append((title, peer, ours / theirs, ours, "s", goal))
    ours, short = seconds["replace"]["lake"], seconds["replace_short"]["lake"]
    found.append(
        ("hour of 1,000 to hour of 10 replaced", "lake", ours / short, ours, "s", "<= 1.2")
    )
    for peer, memory in peak.items():
        if peer != "lake":
            found.append(("peak memory", peer, peak["lake"] / memory, peak["lake"], "MiB", ""))
            found.append(
                ("bytes of a table", peer, size["lake"] / size[peer], size["lake"], "B", "")
            )
    keys = ("name", "peer", "ratio", "value", "unit", "goal")
    return [
        dict(zip(keys, (f"{title}, {count:,} rows", *rest), strict=True)) for title, *rest in found
    ]


def main() -> None:
    """Print one line per comparison; write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pythons = dict.fromkeys(("lake", "copy", "native", "external"), Path(sys.executable))
    duckrun = duckrun_python()
    if duckrun:
        pythons["duckrun"] = duckrun
    with tempfile.TemporaryDirectory() as root:
        peers = {
            name: Process(name, python, Path(root) / name, options.rows)
            for name, python in pythons.items()
        }
        seconds, size = measure(peers)
        found = lines(
            options.rows, seconds, size, {name: peer.end() for name, peer in peers.items()}
        )
    for line in found:
        sys.stdout.write(
            f"{line['name']:52} {line['value']:14,.2f} {line['unit']:4}"
            f"{line['ratio']:7.2f} x {line['peer']:9} {line['goal']}\n"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
