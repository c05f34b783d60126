"""Play many schedules, in one process or in several."""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from tests.simulation import seam
from tests.simulation.auditor import add_spark
from tests.simulation.play import Outcome, play
from tests.simulation.schedule import schedule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Played = tuple[int, Outcome | None]  # steps, and the outcome of a schedule that went wrong
_PORTION = 5  # schedules that a process plays before it tells


def prepare(*, is_quick: bool, spark: str | None = None) -> None:
    """Make this process one that simulates, with a server of Spark as a third reader or without."""
    logging.disable(logging.ERROR)
    seam.install(is_quick=is_quick)
    if spark:
        add_spark(spark)


def search(
    seeds: range, theme: str, processes: int, ready: Callable[[], None]
) -> Iterator[_Played]:
    """Play the schedules of seeds; of each portion stop at the first that goes wrong.

    Args:
        seeds: The seeds.
        theme: Which actors meet.
        processes: How many play at once.
        ready: Makes a process one that simulates, as it has made this one.
    """
    portions = [seeds[start : start + _PORTION] for start in range(0, len(seeds), _PORTION)]
    if processes == 1:
        yield from map(partial(_played, theme), portions)
        return
    # Not forked: delta-rs' threads would be lost.
    with ProcessPoolExecutor(processes, get_context("spawn"), ready) as pool:
        yield from pool.map(partial(_played, theme), portions)


def _played(theme: str, seeds: Iterable[int]) -> _Played:
    steps = 0
    for seed in seeds:
        outcome = play(schedule_of(seed, theme))
        steps += outcome.steps
        if outcome.wrong:
            return steps, outcome
    return steps, None
