"""A world in which one thing happens at a time, in an order that a schedule decides.

Actors are greenlets. Each call of the product at the seam (`seam.py`: storage, Delta log, DuckDB's
files, clock) is one step; at a step the schedule may let another actor go on, or a fault happen.
The same schedule always gives the same run.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.simulation.schedule import Schedule

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
_MOST_STEPS = 40_000
# Which faults can happen to a call. The others wait for the next call that they can happen to.
READ_FAULTS = frozenset({"kill", "away", "stall", "power"})
WRITE_FAULTS = READ_FAULTS | {"kill_after", "lost", "full", "torn"}
COMMIT_FAULTS = (WRITE_FAULTS | {"echo"}) - {"torn"}


class Killed(BaseException):
    """The actor's process is dead: it unwinds, and no call of it has an effect any more."""


class StuckError(AssertionError):
    """Actors wait for what never comes, or run for ever."""


@dataclass(eq=False)
class Actor:
    """One process of the product, or who starts such processes.

    Attributes:
        skew: How far its machine's clock is ahead.
        is_mortal: Whether faults happen to it; those who start processes are spared.
        is_stalled: Whether it sleeps, as a process whose heartbeat is lost.
        token: The last fencing token that it drew.
        seen: The step of its last look at a place, by place.
    """

    name: str
    work: greenlet
    skew: timedelta
    is_mortal: bool
    ready: Callable[[], bool] | None = None
    wakes_at: int = 0
    is_stalled: bool = False
    is_dead: bool = False
    result: Any = None
    error: BaseException | None = None
    token: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.work.dead


@dataclass
class Event:
    """Something that the auditor has to know: what happened, at which step, and its facts."""

    step: int
    kind: str
    facts: dict[str, Any]


class World:
    """Time, actors, faults, and what has happened.

    Args:
        schedule: What decides.
        lake: The lake's folder.
    """

    def __init__(self, schedule: Schedule, lake: Path) -> None:
        self.schedule, self.lake = schedule, lake
        self.now = START + 3 * HOUR + timedelta(minutes=1)
        self.count = 0
        self.actors: list[Actor] = []
        self.events: list[Event] = []
        self.trace: list[str] = []
        self.synced: dict[str, int] = {}  # bytes on the disk, by path
        # By table and version: the step that made it, who did, and the entry's file.
        self.versions: dict[str, dict[int, tuple[int, Actor | None, int]]] = {}
        self.application: Any = None
        self._faults = sorted(schedule.faults)
        self._current: Actor | None = None
        self._choice: int | None = None
        self._last: Actor | None = None
        self._draw = random.Random(schedule.seed)  # noqa: S311 - an order, no secret
        self._is_power_cut = False
        self._met: Counter[str] = Counter()
        self._main = greenlet.getcurrent()
        self.on_power_cut: Callable[[], None] = lambda: None

    # -- actors ---------------------------------------------------------------------------------

    def spawn(self, name: str, work: Callable[[], Any], *, is_mortal: bool = False) -> Actor:
        """Start an actor, which acts once the schedule lets it."""

        def live() -> None:
            try:
                actor.result = work()
            except Killed:
                actor.is_dead = True
            except BaseException as error:  # noqa: BLE001 - its starter decides what to do
                actor.error = error

        skews = self.schedule.skews
        skew = timedelta(seconds=skews[len(self.actors) % len(skews)]) if is_mortal else timedelta()
        actor = Actor(name, greenlet(live, self._main), skew, is_mortal)
        self.actors.append(actor)
        return actor

    def run(self) -> None:
        """Let the actors act until all are over."""
        while (actor := self._next()) is not None:
            self._current = actor
            actor.work.switch()
            self._current = None
            if self._is_power_cut:
                self._cut_power()

    def _next(self) -> Actor | None:
        left = [actor for actor in self.actors if not actor.is_over]
        able = [actor for actor in left if self._is_able(actor)]
        if not able:
            sleepers = [actor for actor in left if actor.is_stalled]
            if sleepers:
                return self._woken(sleepers[0])
            if left:
                message = f"{', '.join(actor.name for actor in left)} wait for what never comes"
                raise StuckError(message)
            return None
        if self._choice is not None:
            chosen, self._choice = able[self._choice % len(able)], None
            return self._woken(chosen)
        if self._last in able:
            return self._woken(self._last)
        return self._woken(self._draw.choice(able) if self.schedule.wanders else able[0])

    def _is_able(self, actor: Actor) -> bool:
        if actor.is_stalled:
            return self.count >= actor.wakes_at
        return actor.ready is None or actor.ready()

    def _woken(self, actor: Actor) -> Actor:
        actor.is_stalled, actor.ready = False, None
        self._last = actor
        return actor

    def wait(self, ready: Callable[[], bool]) -> None:
        """Let the others act until something is true."""
        actor = self.acting
        assert actor is not None
        while not ready():
            actor.ready = ready
            self._main.switch()

    def pause(self) -> None:
        """Let any other go on, if the schedule wanders."""
        self._last = None
        self._main.switch()

    @property
    def acting(self) -> Actor | None:
        """The actor whose code runs now; None: the auditor, or a thread of an engine."""
        actor = self._current
        return actor if actor is not None and greenlet.getcurrent() is actor.work else None

    # -- steps and faults -----------------------------------------------------------------------

    def step(self, label: str, possible: frozenset[str] = frozenset()) -> str | None:
        """Count one step, maybe let others act; return the fault that happens to this call."""
        actor = self.acting
        if actor is None:
            return None
        if actor.is_dead:
            raise Killed
        self.count += 1
        self.now += timedelta(milliseconds=200)
        if self.count > _MOST_STEPS:
            message = f"no end after {_MOST_STEPS} steps"
            raise StuckError(message)
        self.trace.append(f"{actor.name}: {label}")
        choice = self._ambush(label, self.schedule.switches.get(self.count))
        if choice is not None:
            self._choice = choice
            self._main.switch()
        if actor.is_dead:
            raise Killed
        return self._fault(actor, possible) if actor.is_mortal else None

    def _ambush(self, label: str, choice: int | None) -> int | None:
        """Return who goes on before this call, if an ambush was laid at it; else `choice`."""
        for words in dict.fromkeys(words for words, *_ in self.schedule.ambushes if words in label):
            self._met[words] += 1
            for at, number, to in self.schedule.ambushes:
                if (at, number) == (words, self._met[words]):
                    choice = to
        return choice

    def _fault(self, actor: Actor, possible: frozenset[str]) -> str | None:
        due = next(
            (found for found in self._faults if found[0] <= self.count and found[1] in possible),
            None,
        )
        if due is None:
            return None
        self._faults.remove(due)
        kind = due[1]
        self.trace.append(f"{actor.name}: !{kind}")
        if kind == "stall":
            actor.is_stalled, actor.wakes_at = True, self.count + due[2]
            self._main.switch()
            if actor.is_dead:
                raise Killed
            return None
        if kind == "power":
            self._is_power_cut = True
            self._main.switch()
        if kind in ("kill", "power"):
            self.die()
        return kind

    def die(self) -> None:
        """End the acting process at once."""
        actor = self.acting
        assert actor is not None
        actor.is_dead = True
        raise Killed

    def _cut_power(self) -> None:
        """End every process, and lose what was not yet on the disk."""
        self._is_power_cut = False
        self._faults = [found for found in self._faults if found[1] != "power"]
        for actor in self.actors:
            if actor.is_mortal and not actor.is_over:
                actor.is_dead = True
                self._current = actor
                with suppress(Killed):  # one that has not begun yet does not catch it
                    actor.work.throw(Killed)
        self._current = None
        self.on_power_cut()

    # -- time and knowledge ---------------------------------------------------------------------

    def clock(self) -> datetime:
        """Return the time on the acting process's machine, UTC."""
        actor = self.acting
        return self.now + (actor.skew if actor else timedelta())

    def note(self, kind: str, **facts: Any) -> None:
        """Keep what the auditor has to know."""
        actor = self.acting
        self.events.append(Event(self.count, kind, {"actor": actor and actor.name, **facts}))

    def noted(self, kind: str) -> list[Event]:
        """Return what was kept of one kind, in order."""
        return [event for event in self.events if event.kind == kind]
