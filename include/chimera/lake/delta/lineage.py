"""Which event hours a commit touched, and which ones a downstream model must recompute.

Each data commit records in its metadata the event hours that it changed (`touched`) and the
partitions that received rows (`arrived`). A model's own commits record, as app transactions, the
version of each parent that they consumed. A model must recompute the hours that its parents'
commits touched since then, plus the run's own window: so a retry, a cleared task, a failed hour, a
backfill and a standalone `dbt build` all catch up by the same rule (docs/adr/0002).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from deltalake import DeltaTable
from pydantic import Field

from include.chimera.contracts import PARTITION
from include.chimera.relation import Relation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from include.chimera.window import Run, Window

TOUCHED, ARRIVED, READ = "touched_hours", "arrived_partitions", "read_versions"
# Commits that leave every row as it was.
NO_ROWS = frozenset({"CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END"})
_CONSUMED = "consumed:"
_marks: dict[tuple[str, str, int, str], int | None] = {}  # by place, id, version and app id
_PARTIAL = "partial"
_EVERYTHING = "*"


@dataclass(frozen=True)
class Footprint:
    """The hours and partitions that commits changed; None means "could be anything"."""

    touched: frozenset[str] | None = frozenset()
    arrived: frozenset[str] | None = frozenset()

    def __or__(self, other: Footprint) -> Footprint:
        """Return the union of both."""
        return Footprint(_union(self.touched, other.touched), _union(self.arrived, other.arrived))


def _union(one: frozenset[str] | None, two: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or two is None else one | two


def metadata_of(touched: Iterable[str] | None, arrived: Iterable[str] | None) -> dict[str, str]:
    """Return the commit metadata for the hours and partitions that a commit changed."""
    return {
        TOUCHED: _EVERYTHING if touched is None else json.dumps(sorted(touched)),
        ARRIVED: _EVERYTHING if arrived is None else json.dumps(sorted(arrived)),
    }


def _hours(text: str) -> frozenset[str] | None:
    return None if text == _EVERYTHING else frozenset(json.loads(text))


def changes_since(table: DeltaTable, version: int) -> Footprint:
    """Return what the commits after `version`, up to the table's loaded version, changed.

    A data commit without our metadata (another writer's) could have touched anything.
    """
    found = _commits_since(table, version)
    if found is None:
        return Footprint(None, None)
    change = Footprint()
    for entry in found:
        if TOUCHED in entry:
            change |= Footprint(_hours(entry[TOUCHED]), _hours(entry[ARRIVED]))
        elif entry["operation"] not in NO_ROWS:
            change |= Footprint(None, None)
    return change


def read_since(table: DeltaTable, version: int) -> dict[str, int]:
    """Return, by parent's identity, the newest version that commits after `version` read.

    Read from metadata, because a commit that skipped hours moves no mark.
    """
    found: dict[str, int] = {}
    for entry in _commits_since(table, version) or ():
        for parent, read in json.loads(entry.get(READ, "{}")).items():
            found[parent] = max(read, found.get(parent, read))
    return found


def _commits_since(table: DeltaTable, version: int) -> Sequence[Mapping[str, Any]] | None:
    """Return the commits after `version` up to the loaded one, or None if the log lost some.

    Also None if the table never had that version, because it was dropped and recreated.

    `history()` reads from the log's newest commit back to the loaded version minus its limit, but
    numbers its results from the loaded version down (measured with delta-rs 1.6.3). If others have
    committed since the table was loaded, the numbers are wrong, so count from the old end.
    """
    wanted = table.version() - version
    if wanted == 0:
        return []
    newest = DeltaTable(table.table_uri, without_files=True).version()
    if wanted < 0:
        return [] if version <= newest else None
    found = table.history(wanted)
    return found[::-1][:wanted] if version + len(found) >= newest else None


def identity_of(name: Relation | str, table: DeltaTable) -> str:
    """Return `<name>#<id>`, which differs for a table that was dropped and recreated.

    The versions of the two can't be compared: the new one starts again at 0.
    """
    return f"{Relation.of(name).key}#{table.metadata().id}"


def name_of(identity: str) -> str:
    """Return the name in a table's identity, as all its spellings share it."""
    return identity.rpartition("#")[0]


def consumed_mark(identity: str) -> str:
    """Return the app id under which a table's commits record the parent version they read."""
    return f"{_CONSUMED}{identity}"


def consumed_parent(app_id: str) -> str | None:
    """Return the parent's name from a consumed mark's app id; None for other app ids."""
    if not app_id.startswith(_CONSUMED):
        return None
    return name_of(app_id.removeprefix(_CONSUMED))


def is_partial(table: DeltaTable | None) -> bool:
    """Was the table last built from empty or sampled parents?"""
    return table is not None and mark_of(table, _PARTIAL) == 1


def mark_of(table: DeltaTable, app_id: str) -> int | None:
    """Return an app transaction at the table's loaded version, which reads the log only once."""
    key = (table.table_uri, str(table.metadata().id), table.version(), app_id)
    if key not in _marks:
        _marks[key] = table.transaction_version(app_id)
    return _marks[key]


def marks_of(plan: Plan, table: DeltaTable, *, is_partial_build: bool) -> dict[str, int]:
    """Return a build's app transactions: its consumed parent versions, or only a partial mark."""
    if is_partial_build:
        return {_PARTIAL: 1}
    marks = {consumed_mark(name): version for name, version in plan.consumed.items()}
    return {**marks, _PARTIAL: 0} if is_partial(table) else marks


@dataclass(frozen=True)
class Plan:
    """What one build of a model reads and must recompute.

    Args:
        base_version: The model's own version at planning, None if it has no table yet.
        consumed: Version read of each parent that has a table, by the parent's identity.
        touched: Event hours to recompute; None: all of them. Not part of the manifest, because
            nothing behind the gate needs them.
        arrived: By parent, the partitions that received rows since the last build; None: all of
            them. Not part of the manifest either.
    """

    base_version: int | None
    consumed: dict[str, int]
    touched: Annotated[frozenset[str] | None, Field(exclude=True)] = None
    arrived: Annotated[dict[Relation, frozenset[str] | None], Field(exclude=True)] = field(
        default_factory=dict
    )


def plan(
    own: DeltaTable | None, parents: Mapping[Relation, DeltaTable | None], run: Run | None
) -> Plan:
    """Plan a build: derive what a model must recompute from its own and its parents' commits.

    Args:
        own: The model's table, None if it does not exist yet.
        parents: Each parent by name, loaded at the version to read.
        run: The DAG run, whose window is always recomputed; None: standalone.
    """
    consumed = {
        identity_of(name, found): found.version() for name, found in parents.items() if found
    }
    if own is None:
        return Plan(None, consumed, None, dict.fromkeys(parents))
    touched: frozenset[str] | None = frozenset(run.window.labels() if run else ())
    arrived: dict[Relation, frozenset[str] | None] = {}
    for name, table in parents.items():
        if table is None or PARTITION not in table.metadata().partition_columns:
            continue
        mark = mark_of(own, consumed_mark(identity_of(name, table)))
        change = Footprint(None, None) if mark is None else changes_since(table, mark)
        arrived[name] = change.arrived
        touched = _union(touched, change.touched)
    return Plan(own.version(), consumed, touched, arrived)


def plan_anew(parents: Mapping[Relation, DeltaTable | None], window: Window) -> Plan:
    """Plan a preview's build: a window's hours, from all that has arrived since the first of them.

    Args:
        parents: Each parent by name, loaded at the version to read.
        window: The hours; nothing of them can have arrived before they began.
    """
    hours = window.labels()
    arrived: dict[Relation, frozenset[str] | None] = {}
    for name, table in parents.items():
        if table is None or PARTITION not in table.metadata().partition_columns:
            continue
        found = DeltaTable(table.table_uri, version=table.version()).partitions()
        held = {str(values[PARTITION]) for values in found}
        arrived[name] = frozenset(label for label in held if label >= hours[0])
    return Plan(None, {}, frozenset(hours), arrived)
