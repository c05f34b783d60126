"""The state of each table: what it is, since when, why, and what mends it.

A state is what a person should know first, so the worst that is true is told. It is decided from
the newest hour for which anything is known, and from the clock: silence is late, never fresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, get_args

from include.chimera.operations.health.hour_cells import BAD, cell_of, is_committed
from include.chimera.operations.health.known_facts import BUDGET_DAYS, due_hours
from include.chimera.operations.health.reasons import Sight, State, objective, reason_of
from include.chimera.settings import get_settings
from include.chimera.window import HOUR, floor_hour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.chimera.operations.health.hour_cells import Cell
    from include.chimera.operations.health.known_facts import GateFact, Known
    from include.chimera.operations.health.reasons import Reason
    from include.chimera.operations.health.table_graph import TableNode

STATES: tuple[State, ...] = get_args(State)  # the worst first
NEEDS_A_PERSON = frozenset(STATES[:6])


@dataclass(frozen=True)
class Budget:
    """A month's hours of a table against the objective.

    Args:
        due: Hours that were due in the last 30 days.
        late: Those that were published later than the objective, or not at all.
    """

    due: int
    late: int

    @property
    def allowed(self) -> int:
        """How many hours may be late."""
        return int(self.due * (1 - get_settings().freshness_target) + 1e-9)

    @property
    def left(self) -> int:
        """How many more may be; negative: the objective is missed."""
        return self.allowed - self.late


@dataclass(frozen=True)
class TableState:
    """What a person should know about a table.

    Args:
        node: The table.
        reason: Its state with cause, steps, and where to look.
        since: When that began, UTC; None: it is as it should be, or nobody knows.
        published_until: End of the newest published hour, UTC; None: none is known.
        strip: The last 24 hours, oldest first.
        budget: The month against the objective; None: the month was not read.
        gate: The newest verdict.
    """

    node: TableNode
    reason: Reason
    since: datetime | None
    published_until: datetime | None
    strip: tuple[Cell, ...]
    budget: Budget | None
    gate: GateFact | None

    @property
    def table(self) -> str:
        """`<layer>.<table>`."""
        return self.node.table

    @property
    def state(self) -> State:
        """The state in one word."""
        return self.reason.state

    @property
    def needs_a_person(self) -> bool:
        """Whether it is not as it should be, and may not mend itself."""
        return self.state in NEEDS_A_PERSON

    @property
    def waits(self) -> bool:
        """Whether it is held up by tables that are mended first, and goes on with them."""
        return self.state == "blocked"


def table_states(
    known: Known, graph: Mapping[str, TableNode], first_due: datetime | None
) -> list[TableState]:
    """Return the state of each table, the worst first, then as data flows.

    Args:
        known: What is known.
        graph: The tables, parents before their children.
        first_due: The first hour that is due; None: nobody knows, so none counts as missing.
    """
    found: dict[str, TableState] = {}
    for name, node in graph.items():
        parents = {each: found[each].reason for each in node.parents if each in found}
        found[name] = _state(known, node, first_due, parents)
    return sorted(found.values(), key=lambda each: STATES.index(each.state))


def _state(
    known: Known, node: TableNode, first_due: datetime | None, parents: Mapping[str, Reason]
) -> TableState:
    gates = [fact for fact in known.gates if fact.table == node.table]
    strip = tuple(cell_of(known, node, gates, hour, first_due) for hour in due_hours(known.now))
    until = _published_until(known, node, gates)
    sight = Sight.of(known, node, gates, until, parents)
    reason = reason_of(sight)
    since = _since(known, reason, strip, until)
    budget = _budget(known, node, first_due)
    return TableState(node, reason, since, until, strip, budget, sight.gate)


def _published_until(known: Known, node: TableNode, gates: Sequence[GateFact]) -> datetime | None:
    ends = [
        fact.window.end for fact in gates if fact.outcome != "failed" and is_committed(known, fact)
    ]
    ends += [hour + HOUR for hour in known.published.get(node.table, ())]
    ends += [
        window.end
        for window, said_at in (known.months or {}).get(node.table, ())
        if not (node.source or known.was_stopped(said_at))
    ]
    return max(ends, default=None)


def _since(
    known: Known, reason: Reason, strip: Sequence[Cell], until: datetime | None
) -> datetime | None:
    if reason.state == "stopped" and known.stop:
        return datetime.fromisoformat(known.stop.decided_at)
    if reason.state in {"late", "unknown"}:
        return until if reason.state == "late" else None
    alike = BAD if reason.state in NEEDS_A_PERSON else {reason.state}
    begun = None
    for cell in reversed(strip):
        if cell.word in alike:
            begun = cell.hour
        elif begun is not None:
            break
    # Its hours may all be there, and a task that ran again have failed.
    return begun or (reason.task.ended_at if reason.task else None)


def _budget(known: Known, node: TableNode, first_due: datetime | None) -> Budget | None:
    if known.months is None:
        return None
    good: dict[datetime, datetime] = {}
    for window, said_at in known.months.get(node.table, ()):
        if not known.was_stopped(said_at):
            for hour in window.hours():
                good[hour.start] = min(said_at, good.get(hour.start, said_at))
    end = floor_hour(known.now - objective() + HOUR)  # of the hours that should be there by now
    month = (end - HOUR * back for back in range(1, BUDGET_DAYS * 24 + 1))
    begin = first_due or min(good, default=end)
    due = [hour for hour in month if hour >= begin]
    late = [hour for hour in due if hour not in good or good[hour] - hour > objective()]
    return Budget(len(due), len(late))
