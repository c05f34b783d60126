"""A file in the state folder that describes what runs, for `status`, `down` and other commands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from include.chimera.local.private_files import write_private
from include.chimera.local.supervision.processes import is_same

if TYPE_CHECKING:
    from include.chimera.local.layout import Layout

Mode = Literal["run", "up"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class StackFile:
    """A stack that was started; `is_alive` tells whether it still runs.

    Args:
        mode: `run` ends by itself, `up` by `make down`.
        keeper_pid: Pid of the keeper, the parent of all servers.
        keeper_created: When the keeper started, in seconds since the epoch.
        url: Address of the UI and the API.
        metrics_port: Port of the sample application's Prometheus API.
        app_db_uri: libpq URI of the sample application's database.
        pids: The pid of each server.
        started_at: ISO 8601, UTC.
    """

    mode: Mode
    keeper_pid: int
    keeper_created: float
    url: str
    metrics_port: int
    app_db_uri: str
    pids: dict[str, int]
    started_at: str = field(default_factory=_now)

    @property
    def is_alive(self) -> bool:
        """Whether the keeper still runs."""
        return is_same(self.keeper_pid, self.keeper_created)


def note_stack(layout: Layout, note: StackFile) -> None:
    """Write the file."""
    write_private(layout.stack_file, json.dumps(asdict(note), indent=2) + "\n")


def note_pid(layout: Layout, name: str, pid: int) -> None:
    """Record the new pid of a restarted server."""
    note = read_stack(layout)
    if note:
        note_stack(layout, replace(note, pids={**note.pids, name: pid}))


def read_stack(layout: Layout) -> StackFile | None:
    """Read the file; None: there is none, or another version of this module wrote it."""
    try:
        return StackFile(**json.loads(layout.stack_file.read_text()))
    except (OSError, ValueError, TypeError):
        return None
