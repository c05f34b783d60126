"""The stop switch: whether a person has stopped publishing.

`<lake>/_controls/publishing.json` holds all decisions, the newest last; the newest is in force.
While publishing is stopped, runs extract, build and judge as usual, but no gate commits.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from include.chimera.errors import PublishingStoppedError
from include.chimera.lake.store import storage
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.settings import get_settings


@dataclass(frozen=True)
class Decision:
    """Who switched publishing off or on, and why.

    Args:
        is_stopped: Whether gates refuse to publish from then on.
        decided_by: The person: the UI's user, or on the command line the operating system's.
        decided_at: ISO 8601, UTC.
        reason: In the person's own words, at most 500 characters.
    """

    is_stopped: bool
    decided_by: str
    decided_at: str
    reason: str

    def __str__(self) -> str:
        """Describe the decision in one line."""
        done = "stopped" if self.is_stopped else "resumed"
        return f"publishing {done} by {self.decided_by} at {self.decided_at}: {self.reason}"


def require_publishing(where: str) -> None:
    """Raise while publishing is stopped.

    Args:
        where: What would be published.

    Raises:
        PublishingStoppedError: A person has stopped it.
        LakeError: The lake can't be read, so publishing may be stopped.
    """
    decision = newest_decision()
    if decision and decision.is_stopped:
        raise PublishingStoppedError(
            came=str(decision), where=f"{where}; the live version is unchanged"
        )


def newest_decision() -> Decision | None:
    """Return the decision in force, None if none was ever made."""
    return next(reversed(read_decisions()), None)


def read_decisions() -> list[Decision]:
    """Return all decisions, the newest last."""
    with storage_errors("reading whether publishing is stopped"):
        text = storage.read_text(decisions_place())
    return [] if text is None else [Decision(**each) for each in json.loads(text)]


def record_decision(decision: Decision) -> None:
    """Append a decision; it takes effect at once."""
    text = json.dumps([asdict(each) for each in (*read_decisions(), decision)], indent=1)
    with storage_errors("recording a decision"):
        storage.write_text(decisions_place(), text)


def decisions_place() -> str:
    """Return the path of the decisions' file."""
    return f"{get_settings().lake}/_controls/publishing.json"
