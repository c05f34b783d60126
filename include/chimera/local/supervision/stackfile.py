"""The note in the state folder that says what runs, for `status`, `down` and other commands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from include.chimera.local.supervision.processes import identity, is_same

if TYPE_CHECKING:
    from include.chimera.local.layout import Layout

Mode = Literal["run", "up"]


@dataclass(frozen=True)
class StackFile:
    """A stack that was started, and whether it still lives must be asked.

    Args:
        mode: `run` ends by itself, `up` by `make down`.
        keeper_pid: The parent of all servers.
        keeper_created: When it started, in seconds since the epoch.
        url: Address of the UI and the API.
        metrics_port: Port of the sample application's Prometheus API.
        app_db_uri: libpq URI of the sample application's database.
        started_at: ISO 8601, UTC.
        pids: The pid of each server.
    """

    mode: Mode
    keeper_pid: int
    keeper_created: float
    url: str
    metrics_port: int
    app_db_uri: str
    started_at: str
    pids: dict[str, int]

    @property
    def is_alive(self) -> bool:
        """Whether the keeper still lives."""
        return is_same(self.keeper_pid, self.keeper_created)


def note_stack(  # noqa: PLR0913  # one argument per field of the note
    layout: Layout,
    *,
    mode: Mode,
    keeper_pid: int,
    url: str,
    metrics_port: int,
    app_db_uri: str,
    pids: dict[str, int],
) -> None:
    """Write the note."""
    note = StackFile(
        mode=mode,
        keeper_pid=keeper_pid,
        keeper_created=identity(keeper_pid) or 0.0,
        url=url,
        metrics_port=metrics_port,
        app_db_uri=app_db_uri,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        pids=pids,
    )
    _write(layout, note)


def note_pid(layout: Layout, name: str, pid: int) -> None:
    """Note that a server was started again."""
    note = read_stack(layout)
    if note:
        _write(layout, replace(note, pids={**note.pids, name: pid}))


def read_stack(layout: Layout) -> StackFile | None:
    """Return the note; None: there is none, or it is from another version of this file."""
    try:
        return StackFile(**json.loads(layout.stack_file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(layout: Layout, note: StackFile) -> None:
    fresh = layout.stack_file.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(note), indent=2) + "\n")
    fresh.replace(layout.stack_file)
