"""Hours of the last day that tables lack, with why, as the page shows them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.chimera.operations.gaps import Gap
    from include.chimera.operations.health.known_facts import Known
    from include.chimera.window import Window

_WHY = {
    None: "no run has worked on it: chimera_catch_up begins one within minutes, unless it or the "
    "scheduler rests",
    "failed": "its run failed: mend what the run's page names, then run its failed tasks again",
    "success": "its run succeeded, but left these tables out",
}


@dataclass(frozen=True)
class MissingHours:
    """Consecutive hours that tables lack.

    Args:
        window: The hours.
        tables: The tables that lack them.
        why: Why, in a sentence.
        run_id: The newest run for the first of them; "": there is none.
    """

    window: Window
    tables: tuple[str, ...]
    why: str
    run_id: str


def missing_hours(known: Known, gaps: Sequence[Gap]) -> list[MissingHours]:
    """Put gaps of the same hours together, the newest first."""
    tables: dict[Window, list[str]] = defaultdict(list)
    for gap in gaps:
        tables[gap.window].append(gap.table)
    found = []
    for window, names in sorted(tables.items(), reverse=True):
        start = window.start
        runs = [run for run in known.runs if run.run.window.start <= start < run.run.window.end]
        newest = max(runs, key=lambda run: run.started_at or known.now, default=None)
        why = _WHY.get(newest.state if newest else None, "its run is at work")
        run_id = newest.run.run_id if newest else ""
        found.append(MissingHours(window, tuple(names), why, run_id))
    return found
