"""Schedules: who acts, when another one goes on, which faults happen; made from a seed, shrunk."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Fault = tuple[int, str, int]  # from which step on, its kind, for how many steps
Ambush = tuple[str, int, int]  # a call's words, at which of such calls, who goes on
FAULTS = (
    *("kill", "kill_after", "kill_after", "away", "lost", "echo", "echo", "full", "torn"),
    *("stall", "stall", "stall", "power"),
)
# Calls between which somebody decides: what others do just before is what it must not overlook.
_DECIDING = ("history", "create_write_transaction", "write_bytes", "init /silver", "init /gold")
_STEPS = 80  # of one actor, roughly; these take more
_MORE_STEPS = {"trickle": 320, "compact": 160, "models": 240}
# Which actors meet: those that always do, and by weight those that may join them. They write the
# same tables, or decide about them.
THEMES: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "lines": (("lines", "lines", "application"), {"lines": 2, "compact": 1, "replay": 1}),
    "replays": (("lines", "replay"), {"replay": 2, "lines": 2, "application": 1, "hour": 2}),
    "rows": (("rows", "rows", "application"), {"rows": 1, "reconcile": 1, "compact": 2}),
    "compactions": (
        ("trickle", "trickle", "compact", "compact"),
        {"compact": 1, "rows": 1, "application": 1},
    ),
    "watermark": (("watermark", "watermark", "application"), {"rows": 2, "again": 1, "restore": 1}),
    "models": (("trickle", "models", "models"), {"models": 1, "application": 1, "restore": 2}),
    "people": (("accept", "rows", "rows"), {"again": 1, "models": 1, "application": 2}),
    "switch": (("stop", "lines", "rows"), {"stop": 2, "restore": 2, "application": 1}),
    "developers": (("developer", "developer"), {"developer": 2, "compact": 2}),
    "hours": (("hour",), {"hour": 1, "backfill": 1, "again": 2, "application": 1, "maintain": 1}),
}


@dataclass(frozen=True)
class Schedule:
    """Everything that a run of the world depends on.

    Args:
        seed: What it was made from; also decides what the application writes.
        actors: Their kinds, in order; a kind may come several times.
        switches: At these steps another actor goes on: the number of it among those able to.
        faults: What happens to the first fitting call from a step on.
        skews: Seconds by which the clocks of the processes are ahead, taken in turn.
        wanders: Whether any of those able to goes on where one ends or waits, not the first.
        ambushes: Another actor goes on before these calls, too.
    """

    seed: int
    actors: tuple[str, ...]
    switches: dict[int, int]
    faults: tuple[Fault, ...]
    skews: tuple[int, ...]
    wanders: bool = True
    ambushes: tuple[Ambush, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        found = json.loads(text)
        return cls(
            found["seed"],
            tuple(found["actors"]),
            {int(step): choice for step, choice in found["switches"].items()},
            tuple((step, kind, length) for step, kind, length in found["faults"]),
            tuple(found["skews"]),
            found["wanders"],
            tuple((words, number, choice) for words, number, choice in found.get("ambushes", ())),
        )

    def __str__(self) -> str:
        """Describe it in a few lines."""
        faults = ", ".join(f"{kind} from step {step}" for step, kind, _ in self.faults)
        switches = ", ".join(f"{step}→{choice}" for step, choice in self.switches.items())
        return (
            f"seed {self.seed}: {', '.join(self.actors)}\n  faults: {faults or 'none'}\n"
            f"  switches: {switches or 'none'}\n  clocks: {self.skews}"
            + "".join(f"\n  before {words} {number}: →{to}" for words, number, to in self.ambushes)
        )


def schedule_of(seed: int, theme: str = "") -> Schedule:
    """Return the schedule of a seed, of one theme or of any."""
    draw = random.Random(seed)  # noqa: S311 - a schedule, no secret
    always, others = THEMES[theme or draw.choice(list(THEMES))]
    some = draw.choices(list(others), list(others.values()), k=draw.choice((0, 1, 1, 2)))
    actors = tuple(draw.sample([*always, *some], len(always) + len(some)))
    horizon = sum(_MORE_STEPS.get(kind, _STEPS) for kind in actors)
    # Few switches leave long stretches of one actor, in which most races are: some schedules have
    # none, others many.
    switches = {
        draw.randrange(1, horizon): draw.randrange(8)
        for _ in range(draw.choice((0, 1, 2, 4, 16, 40)))
    }
    faults = tuple(
        (draw.randrange(1, horizon), draw.choice(FAULTS), draw.choice((40, 150, 600)))
        for _ in range(draw.choice((0, 1, 1, 2, 3)))
    )
    skews = draw.choice(((0,), (0,), (0, 300, -300), (-120, 0, 600, 5)))
    ambushes = tuple(
        (draw.choice(_DECIDING), draw.randrange(1, 24), draw.randrange(8))
        for _ in range(draw.choice((0, 0, 2, 6)))
    )
    return Schedule(seed, actors, dict(sorted(switches.items())), faults, skews, ambushes=ambushes)


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool], most: int = 200) -> Schedule:
    """Return a schedule that still fails, and of which nothing more can be left out.

    Args:
        schedule: One that fails.
        fails: Runs a schedule; returns whether it fails in the same way.
        most: How many runs to spend.
    """
    runs = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(schedule):
            runs += 1
            if runs > most:
                return schedule
            if fails(smaller):
                schedule, is_smaller = smaller, True
                break
    return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    for index in range(len(schedule.actors)):
        left = schedule.actors[:index] + schedule.actors[index + 1 :]
        yield replace(schedule, actors=left)
    for index in range(len(schedule.faults)):
        left = schedule.faults[:index] + schedule.faults[index + 1 :]
        yield replace(schedule, faults=left)
    for index in range(len(schedule.ambushes)):
        left = schedule.ambushes[:index] + schedule.ambushes[index + 1 :]
        yield replace(schedule, ambushes=left)
    steps = list(schedule.switches)
    size = len(steps)
    while size:
        for start in range(0, len(steps), size):
            gone = set(steps[start : start + size])
            kept = {step: to for step, to in schedule.switches.items() if step not in gone}
            yield replace(schedule, switches=kept)
        size //= 2
    if schedule.wanders:
        yield replace(schedule, wanders=False)
    if any(schedule.skews):
        yield replace(schedule, skews=(0,))
