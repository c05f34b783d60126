"""A person's hand on the lake: stop publishing, let it go on, put a table back.

What a gate asks before it commits is in `lake/publish/stop_switch`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from include.chimera.errors import ControlRefusedError
from include.chimera.lake.publish.stop_switch import (
    Decision,
    decisions_place,
    newest_decision,
    read_decisions,
)
from include.chimera.lake.store import storage
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.lake.upkeep.restore import restore_table
from include.chimera.quality.acceptance import current_user, require_reason


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


def restore(table: str, version: int, reason: str) -> int:
    """Put a table back to a version while publishing is stopped; return the new version.

    Raises:
        ControlRefusedError: Publishing goes on, the reason is empty, or there is no such version.
        CommitConflictError: Another writer committed meanwhile.
    """
    decision = newest_decision()
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
    decisions, words = read_decisions(), require_reason(reason)
    if is_stopped == bool(decisions and decisions[-1].is_stopped):
        raise ControlRefusedError(
            expected=f"publishing that is {'not ' if is_stopped else ''}stopped",
            came=str(decisions[-1]) if decisions else "publishing that was never stopped",
            where=decisions_place(),
            remedy="nothing: it is as you want it",
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decision = Decision(is_stopped, current_user(), now, words)
    text = json.dumps([asdict(each) for each in (*decisions, decision)], indent=1)
    with storage_errors("recording a decision"):
        storage.write_text(decisions_place(), text)
    return decision
