"""Manual controls of the lake: stop publishing, resume it, restore a table.

Gates check `lake/publish/stop_switch` before they commit.
"""

from __future__ import annotations

from datetime import UTC, datetime

from include.chimera.errors import CLI, ControlRefusedError
from include.chimera.lake.publish.stop_switch import (
    Decision,
    decisions_place,
    newest_decision,
    record_decision,
)
from include.chimera.lake.upkeep.restore import restore_table
from include.chimera.quality.acceptance import current_user, require_reason


def stop_publishing(reason: str, who: str = "") -> Decision:
    """Keep every gate from publishing until `resume_publishing`.

    Args:
        reason: Why, in the person's words.
        who: The person; "": the operating system's user.

    Raises:
        ControlRefusedError: Publishing is already stopped, or the reason is empty.
    """
    return _switch(is_stopped=True, reason=reason, who=who)


def resume_publishing(reason: str, who: str = "") -> Decision:
    """Let gates publish again; the arguments are those of `stop_publishing`.

    Raises:
        ControlRefusedError: Publishing is not stopped, or the reason is empty.
    """
    return _switch(is_stopped=False, reason=reason, who=who)


def restore(table: str, version: int, reason: str, who: str = "") -> int:
    """Restore a table to a version while publishing is stopped; return the new version.

    `reason` and `who` are those of `stop_publishing`.

    Raises:
        ControlRefusedError: Publishing is not stopped, the reason is empty, or there is no such
            version.
        CommitConflictError: Another writer committed in the meantime.
    """
    words = require_reason(reason)
    require_stopped(f"table {table}")
    notes = {"restored_by": who or current_user(), "restored_reason": words}
    return restore_table(table, version, notes)


def require_stopped(where: str) -> None:
    """Raise unless publishing is stopped.

    Args:
        where: What would be put back.

    Raises:
        ControlRefusedError: It goes on.
        LakeError: The lake can't be read.
    """
    decision = newest_decision()
    if not (decision and decision.is_stopped):
        raise ControlRefusedError(
            expected="stopped publishing, so that no run commits meanwhile",
            came="publishing that goes on",
            where=where,
            remedy=f"{CLI} stop-publishing --reason '…'",
        )


def _switch(*, is_stopped: bool, reason: str, who: str) -> Decision:
    newest, words = newest_decision(), require_reason(reason)
    if is_stopped == bool(newest and newest.is_stopped):
        raise ControlRefusedError(
            expected=f"publishing that is {'not ' if is_stopped else ''}stopped",
            came=str(newest) if newest else "publishing that was never stopped",
            where=decisions_place(),
            remedy="nothing: it is as you want it",
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decision = Decision(is_stopped, who or current_user(), now, words)
    record_decision(decision)
    return decision
