"""A person's hand on the lake: stop publishing, let it go on, put a table back.

`<lake>/_controls/publishing.json` holds every such decision, the newest last; the newest decides.
While publishing is stopped, runs extract, build and judge as ever, and each gate refuses to commit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from include.chimera.errors import ControlRefusedError, PublishingStoppedError
from include.chimera.lake.store import storage
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.lake.upkeep.restore import restore_table
from include.chimera.quality.acceptance import current_user, require_reason
from include.chimera.settings import get_settings


@dataclass(frozen=True)
class Decision:
    """Who switched publishing off or on, and why.

    Args:
        is_stopped: Whether gates refuse to publish from then on.
        decided_by: The operating system's user.
        decided_at: ISO 8601, UTC.
        reason: In the person's own words, at most 500 characters.
    """

    is_stopped: bool
    decided_by: str
    decided_at: str
    reason: str

    def __str__(self) -> str:
        """Say it in one line."""
        done = "stopped" if self.is_stopped else "resumed"
        return f"publishing {done} by {self.decided_by} at {self.decided_at}: {self.reason}"


def stop_publishing(reason: str) -> Decision:
    """Keep every gate from publishing until `resume_publishing`.

    Raises:
        ControlRefusedError: It is stopped already, or the reason is empty.
    """
    return _switch(is_stopped=True, reason=reason)


def resume_publishing(reason: str) -> Decision:
    """Let gates publish again.

    Raises:
        ControlRefusedError: It is not stopped, or the reason is empty.
    """
    return _switch(is_stopped=False, reason=reason)


def require_publishing(where: str) -> None:
    """Refuse to go on while publishing is stopped.

    Args:
        where: What would be published.

    Raises:
        PublishingStoppedError: A person has stopped it.
        LakeError: The lake can't be read: nothing is published unasked.
    """
    decision = _newest()
    if decision and decision.is_stopped:
        raise PublishingStoppedError(
            expected="a lake that may be published to",
            came=str(decision),
            where=f"{where}; the live version is unchanged",
            remedy="python -m include.chimera resume-publishing --reason '…', then clear the task",
        )


def restore(table: str, version: int, reason: str) -> int:
    """Put a table back to a version while publishing is stopped; return the new version.

    Raises:
        ControlRefusedError: Publishing goes on, the reason is empty, or there is no such version.
        CommitConflictError: Another writer committed meanwhile.
    """
    decision = _newest()
    words = require_reason(reason)
    if not (decision and decision.is_stopped):
        raise ControlRefusedError(
            expected="stopped publishing, so that no run commits meanwhile",
            came="publishing that goes on",
            where=f"table {table}",
            remedy="python -m include.chimera stop-publishing --reason '…'",
        )
    who = {"restored_by": current_user(), "restored_reason": words, "restored_to": str(version)}
    return restore_table(table, version, who)


def _switch(*, is_stopped: bool, reason: str) -> Decision:
    decisions, words = _decisions(), require_reason(reason)
    if is_stopped == bool(decisions and decisions[-1].is_stopped):
        raise ControlRefusedError(
            expected=f"publishing that is {'not ' if is_stopped else ''}stopped",
            came=str(decisions[-1]) if decisions else "publishing that was never stopped",
            where=_place(),
            remedy="nothing: it is as you want it",
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decision = Decision(is_stopped, current_user(), now, words)
    text = json.dumps([asdict(each) for each in (*decisions, decision)], indent=1)
    with storage_errors("recording a decision"):
        storage.write_text(_place(), text)
    return decision


def _newest() -> Decision | None:
    return next(reversed(_decisions()), None)


def _decisions() -> list[Decision]:
    with storage_errors("reading whether publishing is stopped"):
        text = storage.read_text(_place())
    return [] if text is None else [Decision(**each) for each in json.loads(text)]


def _place() -> str:
    return f"{get_settings().lake}/_controls/publishing.json"
