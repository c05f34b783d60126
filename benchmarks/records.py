"""What every bench hands on: one line per measurement, as a ratio to a peer of the same run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Record:
    """One measurement.

    Args:
        name: What was measured.
        peer: What it is compared with, measured in the same run, or the limit.
        ratio: The value divided by the peer's.
        value: The measurement.
        unit: Its unit.
        goal: The ratio that must not be exceeded; None: no goal.
    """

    name: str
    peer: str
    ratio: float
    value: float
    unit: str
    goal: float | None = None

    @property
    def is_missed(self) -> bool:
        """Whether the goal is exceeded."""
        return self.goal is not None and self.ratio > self.goal


def hand_on(records: Iterable[Record], path: Path | None) -> None:
    """Write the records as a JSON list to a file, or to the terminal."""
    text = json.dumps([asdict(record) for record in records], indent=2) + "\n"
    if path:
        path.write_text(text)
    else:
        sys.stdout.write(text)


def peak_mib() -> float:
    """Return the most memory that this process held so far, in MiB.

    Not `ru_maxrss`: a new process begins with that of its parent.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
