"""`python -m tests.simulation --seeds 1000`; `--seed 42` plays one again, step by step."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.simulation.play import Outcome, play
from tests.simulation.schedule import Schedule, schedule_of, shrunk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one, and print its steps")
    parser.add_argument("--schedule", help="play this schedule (JSON, as a failure prints it)")
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    if given.seed is not None or given.schedule:
        schedule = (
            Schedule.from_json(given.schedule)
            if given.schedule
            else schedule_of(given.seed)
        )
        outcome = play(schedule)
        print(*outcome.trace, sep="\n")
        _print(outcome)
        return bool(outcome.wrong)
    began, steps = time.monotonic(), 0
    for seed in range(given.first, given.first + given.seeds):
        outcome = play(schedule_of(seed))
        steps += outcome.steps
        if outcome.wrong:
            _print(outcome)
            smaller = shrunk(outcome.schedule, lambda other: play(other).kind == outcome.kind)
            print("shrunk:")
            _print(play(smaller))
            print(f"again: python -m tests.simulation --schedule '{smaller.to_json()}'")
            return 1
    seconds = time.monotonic() - began
    print(
        f"{given.seeds} schedules, {steps:,} steps, {seconds:.1f} s: "
        f"{given.seeds / seconds * 60:.0f} schedules a minute in one process"
    )
    return 0


def _print(outcome: Outcome) -> None:
    print(outcome.schedule)
    for line in outcome.wrong:
        print(f"  wrong: {line}")


if __name__ == "__main__":
    sys.exit(main())
