"""What Airflow costs while nothing is due: the CPU of each of its servers.

`python -m benchmarks.idle [--json PATH] [--seconds 60]`. All servers of `make run` are started with
the DAG paused; once the DAG is parsed, their CPU is counted for the given time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.records import Record, hand_on
from include.chimera.local.layout import Layout
from include.chimera.local.runs.planning import choose_hours, hour_variables, plan_start
from include.chimera.local.servers.sample_application import demo_sample
from include.chimera.local.servers.stack import DAG_ID, Stack
from include.chimera.local.supervision.supervisor import StateLock
from include.chimera.paths import PROJECT
from include.chimera.settings import get_settings

SETTLE_SECONDS = 30
REPARSE_SECONDS = 600
LIMIT = 0.1  # of one core


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its children, living and ended."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    return float(
        own.user + own.system + own.children_user + own.children_system
        + sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))
    )  # fmt: skip


def measure(seconds: float) -> dict[str, float]:
    """Return, by server, its share of one core while nothing runs."""

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    settings = get_settings()
    layout = Layout.of(settings.state_dir)
    window = choose_hours(layout, settings, 1, say)
    hours = hour_variables(window)
    plan = plan_start(layout, settings, hours, REPARSE_SECONDS, PROJECT)
    with Stack(plan, StateLock(layout), say) as stack:
        stack.start(demo_sample(settings, [window], plan, say), "run")
        stack.wait_for_dag(DAG_ID)
        time.sleep(SETTLE_SECONDS)
        begun = time.monotonic()
        before = {name: cpu_seconds(pid) for name, pid in stack.line.pids.items()}
        time.sleep(seconds)
        stack.check()
        wall = time.monotonic() - begun
        return {
            name: (cpu_seconds(pid) - before[name]) / wall
            for name, pid in stack.line.pids.items()
            if name in before
        }


def main() -> None:
    """Measure and hand on the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHIMERA_STATE_DIR"] = folder  # noqa: TID251 - before the settings are read
        found = measure(options.seconds)
    hand_on(
        [
            Record(
                f"idle {name}", "one core", share, 100 * share, "%",
                LIMIT if name == "scheduler" else None,
            )
            for name, share in found.items()
        ],
        options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
