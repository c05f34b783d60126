"""Play a schedule: make the world, let it run, and let the auditor look."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.simulation import seam
from tests.simulation.actors import People
from tests.simulation.application import Application
from tests.simulation.auditor import audit
from tests.simulation.world import StuckError, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.schedule import Schedule


@dataclass
class Outcome:
    """What came of a schedule: how many steps, what was wrong, and what everybody did."""

    schedule: Schedule
    steps: int
    wrong: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The first thing that was wrong, without its particulars."""
        return self.wrong[0].split(":")[0] if self.wrong else ""


@contextmanager
def _state() -> Iterator[Path]:
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a memory disk
    folder = Path(tempfile.mkdtemp(prefix="chimera-simulation-", dir=place))
    before, tempfile.tempdir = os.environ.get("CHIMERA_STATE_DIR"), place  # noqa: TID251
    os.environ["CHIMERA_STATE_DIR"] = str(folder)  # noqa: TID251
    os.environ["CHIMERA_COMPACT_FILES"] = "2"  # noqa: TID251
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        tempfile.tempdir = None
        del os.environ["CHIMERA_COMPACT_FILES"]  # noqa: TID251
        del os.environ["CHIMERA_STATE_DIR"]  # noqa: TID251
        if before is not None:
            os.environ["CHIMERA_STATE_DIR"] = before  # noqa: TID251


def play(schedule: Schedule, *, has_engines: bool = True) -> Outcome:
    """Play a schedule in a world of its own."""
    seam.install()
    with _state() as state:
        world = World(schedule, state / "lake")
        logs = state / "sources" / "api_logs"
        logs.mkdir(parents=True)
        world.application = Application(world, logs, random.Random(schedule.seed))  # noqa: S311
        world.application.begin()
        people = People(world)
        for kind in schedule.actors:
            people.start(kind)
        world.on_power_cut = lambda: _lose_unsynced(world)
        seam.play(world, lambda: _note_versions(world))
        wrong = []
        try:
            world.run()
        except StuckError as error:
            wrong.append(f"stuck: {error}")
        wrong += [
            f"{type(actor.error).__name__}: {actor.name}: {_told(actor.error)}"
            for actor in world.actors
            if actor.error is not None and not actor.is_mortal
        ]
        with seam.world_asleep():
            people.mend_logs()  # of a table that nothing reads any more
            wrong += audit(world, has_engines=has_engines)
        return Outcome(schedule, world.count, wrong, world.trace)


def _note_versions(world: World) -> None:
    """Keep who made which version of which table, and when."""
    for layer in os.scandir(world.lake):
        for table in () if layer.name.startswith("_") else os.scandir(layer):
            known = world.versions.setdefault(table.path, {})
            log = f"{table.path}/_delta_log"
            for name in os.listdir(log) if os.path.isdir(log) else ():  # noqa: PTH112, PTH208
                if name.endswith(".json") and name[:-5].isdigit() and int(name[:-5]) not in known:
                    known[int(name[:-5])] = (world.count, world.acting, _inode(f"{log}/{name}"))


def _inode(place: str) -> int:
    return os.stat(place).st_ino  # noqa: PTH116 - thousands of times


def _lose_unsynced(world: World) -> None:
    """Leave hollow what no fsync had reached: data files, and the newest entries of logs."""
    spared = _merged_by_the_unfinished(world)
    for path in world.lake.glob("*/*/**/*"):
        is_kept = path.is_dir() or world.synced.get(str(path)) == path.stat().st_size
        is_kept = is_kept or str(path) in spared
        if not is_kept and path.suffix in (".parquet", ".json") and "_runs" not in str(path):
            os.truncate(path, 0)


def _merged_by_the_unfinished(world: World) -> set[str]:
    """Return the files of compactions that died between delta-rs' commit and their own fsync.

    delta-rs does both at once: docs/faults.md says what a power cut in this moment leaves.
    """
    found = set()
    for folder, versions in world.versions.items():
        for number, (_, maker, _) in versions.items():
            entry = Path(folder, "_delta_log", f"{number:020d}.json")
            if maker is None or (maker.is_over and not maker.is_dead) or not entry.exists():
                continue
            actions = [json.loads(line) for line in entry.read_text().splitlines()]
            if any(act.get("commitInfo", {}).get("operation") == "OPTIMIZE" for act in actions):
                found |= {f"{folder}/{unquote(a['add']['path'])}" for a in actions if "add" in a}
    return found


def _told(error: BaseException) -> str:
    """Return what was raised first, and where."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{Path(at.filename).stem}:{at.lineno}" for at in reversed(frames))
    return f"{type(error).__name__}: {error} ({places})"
