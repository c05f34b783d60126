"""Search for schedules in which the lake goes wrong.

`python -m tests.simulation --seeds 1000` plays schedules until one leaves something wrong, and
prints it shrunk; `--seed 42` plays one again, step by step. `--bugs` plants bugs and says which
are found.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.planted import BUGS, Bug, planted
from tests.simulation.play import Outcome, play
from tests.simulation.schedule import THEMES, Schedule, schedule_of, shrunk
from tests.simulation.search import prepare, search

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (of each bug at most)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--theme", default="", choices=("", *THEMES), help="which actors meet")
    parser.add_argument("--processes", type=int, default=1, help="how many at once")
    parser.add_argument("--seed", type=int, help="play this one, and print its steps")
    parser.add_argument("--schedule", help="play this schedule (JSON, as a failure prints it)")
    parser.add_argument("--bugs", nargs="*", help="plant these bugs, all if none is named")
    parser.add_argument("--delta-rs", action="store_true", help="let delta-rs do all of the logs")
    parser.add_argument("--spark", help="let this Spark read each table too (sc://host:port)")
    given = parser.parse_args()
    ready = partial(prepare, is_quick=not given.delta_rs, spark=given.spark)
    ready()
    if given.bugs is not None:
        return _hunt_bugs(given.bugs, given.seeds)
    if given.seed is not None or given.schedule:
        text = given.schedule
        outcome = play(Schedule.from_json(text) if text else schedule_of(given.seed, given.theme))
        print(*outcome.trace, sep="\n")
        _print(outcome)
        return bool(outcome.wrong)
    return _search(given, ready)


def _search(given: argparse.Namespace, ready: Callable[[], None]) -> int:
    began, steps, count = time.monotonic(), 0, given.processes
    seeds = range(given.first, given.first + given.seeds)
    for played, outcome in search(seeds, given.theme, count, ready):
        steps += played
        if outcome is not None:
            return _tell(outcome)
    seconds = time.monotonic() - began
    print(
        f"{given.seeds} schedules, {steps:,} steps, nothing wrong; {seconds:.0f} s: "
        f"{given.seeds / seconds * 60:.0f} schedules a minute in {count} processes"
    )
    return 0


def _tell(outcome: Outcome) -> int:
    _print(outcome)
    smaller = shrunk(outcome.schedule, lambda other: play(other).kind == outcome.kind)
    print("shrunk:")
    _print(play(smaller))
    print(f"again: python -m tests.simulation --schedule '{smaller.to_json()}'")
    return 1


def _hunt_bugs(names: list[str], most: int) -> int:
    """Plant each bug, and play schedules of its theme until something is wrong."""
    chosen = [bug for bug in BUGS if not names or any(name in bug.name for name in names)]
    found = sum(_is_found(bug, most) for bug in chosen)
    print(f"{found} of {len(chosen)} bugs found")
    return found != len(chosen)


def _is_found(bug: Bug, most: int) -> bool:
    began = time.process_time()
    with planted(bug):
        for seed in range(most):
            outcome = play(schedule_of(seed, bug.theme), has_engines=False)
            if outcome.wrong:
                seconds = time.process_time() - began
                print(f"found in {seconds:.1f} s, seed {seed}: {bug.name}: {outcome.wrong[0][:90]}")
                return True
    print(f"NOT found in {most} schedules: {bug.name}")
    return False


def _print(outcome: Outcome) -> None:
    print(outcome.schedule)
    for line in outcome.wrong:
        print(f"  wrong: {line}")


if __name__ == "__main__":
    # The order of a set is one more thing that a replay depends on.
    if os.environ.get("PYTHONHASHSEED") != "0":  # noqa: TID251 - Python's own
        again = (sys.executable, "-m", "tests.simulation", *sys.argv[1:])
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606, TID251
    sys.exit(main())
