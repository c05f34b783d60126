"""Fault points: named steps at which a test can kill or stop this process.

A fault point does nothing unless the setting `fault_point` names it. So tests prove what a crash
leaves behind with a process that really dies there (docs/faults.md).
"""

from __future__ import annotations

import os
import signal
from typing import Literal

from include.chimera.settings import get_settings

Step = Literal[
    "extract.start",
    "extract.rows_written",
    "extract.staged",
    "build.rows_written",
    "audit.start",
    "publish.letters_written",
    "publish.files_written",
    "publish.committed",
    "publish.verified",
    "publish.recorded",
    "ledger.start",
    "ledger.committed",
    "replay.staged",
    "replay.published",
    "restore.table",
    "restore.recorded",
    "restore.shown",
]
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def fault_point(step: Step) -> None:
    """Die or stop here if the setting says so (`<step>=kill` or `<step>=stop`)."""
    asked = get_settings().fault_point
    if asked:
        name, _, action = asked.partition("=")
        if name == step:
            os.kill(os.getpid(), _SIGNALS[action])
