"""One moment of the lake and the scheduler together, as the pages show it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from include.chimera.flow.connections import reach_store
from include.chimera.flow.health_page.scheduler_facts import is_paused, newest_runs
from include.chimera.operations.gaps import find_gaps, first_hour
from include.chimera.operations.health import known_facts
from include.chimera.operations.health.known_facts import Known
from include.chimera.operations.health.last_words import last_words
from include.chimera.operations.health.table_graph import table_graph
from include.chimera.operations.health.table_states import table_states
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, Window, floor_hour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from include.chimera.operations.gaps import Gap
    from include.chimera.operations.health.table_states import TableState

_KEPT_SECONDS = 10  # how old the lake's part may be; the scheduler's part is asked anew each time
_SHOWN_ERRORS = 5


def look(session: Session, now: datetime) -> Known:
    """Return what the lake and the scheduler know.

    Raises:
        LakeError: The lake can't be read.
    """
    reach_store()
    known = replace(_lake(int(time.monotonic() / _KEPT_SECONDS)), now=now)
    return known_facts.with_runs(known, newest_runs(session), is_paused=is_paused(session))


def look_further(known: Known) -> Known:
    """Add the month and the dead letters, which take longer to read.

    Raises:
        LakeError: The lake can't be read.
    """
    further = _further(int(time.monotonic() / _KEPT_SECONDS))
    return replace(known, months=further.months, letters=further.letters)


def forget() -> None:
    """Read the lake anew next time, because somebody changed it."""
    for kept in (_lake, _further, _first_due):
        kept.cache_clear()


def states(known: Known) -> list[TableState]:
    """Return the tables' states, the worst first."""
    first, graph = _first_due(int(time.monotonic() / 60)), table_graph()
    found = table_states(known, graph, first)
    if known.months is None and any(item.state == "unknown" for item in found):
        return table_states(look_further(known), graph, first)  # they may have been, days ago
    return found


def gaps(known: Known) -> list[Gap]:
    """Return the hours of the last day that tables lack, those under way left out."""
    first, end = _first_due(int(time.monotonic() / 60)), floor_hour(known.now) - HOUR
    begin = max(first, end - known_facts.HOURS * HOUR) if first else end
    return find_gaps(Window(begin, end)) if begin < end else []


def errors(states: Sequence[TableState]) -> dict[str, str]:
    """Return what the failed tasks said last, by table."""
    reasons = {item.table: item.reason for item in states if item.state == "failed"}
    return {
        table: words
        for table, reason in [*reasons.items()][:_SHOWN_ERRORS]
        if (task := reason.task)
        and (words := last_words(reason.run_id, task.task_id, task.try_number))
    }


@lru_cache(maxsize=1)
def _lake(_slot: int) -> Known:
    return known_facts.look(datetime.now(UTC))


@lru_cache(maxsize=1)
def _further(_slot: int) -> Known:
    return known_facts.look_further(Known(datetime.now(UTC)))


@lru_cache(maxsize=1)
def _first_due(_slot: int) -> datetime | None:
    return get_settings().start_date or first_hour()
