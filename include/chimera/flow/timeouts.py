"""Enforce timeouts while native code runs.

Airflow's `execution_timeout` only raises once the main thread is back in Python: DuckDB, delta-rs
and dbt's worker threads don't notice it until they are done. SIGINT stops DuckDB's query and makes
dbt cancel its own. A task that ignores even that is killed, and Airflow retries it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)

_SHARE = 0.9  # of the timeout, to interrupt before Airflow raises its own exception
_GRACE_SECONDS = 10.0
_ended = threading.Event()


def arm(context: Context) -> None:
    """Start watching this task until its `execution_timeout` (its `pre_execute`)."""
    global _ended  # noqa: PLW0603 - a task's process has one task
    _ended.set()
    _ended = threading.Event()
    timeout = context["task"].execution_timeout
    if timeout is not None:
        seconds = timeout.total_seconds()
        threading.Thread(target=_watch, args=(_ended, seconds), daemon=True).start()


def disarm(*_: object) -> None:
    """Stop watching because the task's own work is done (its `post_execute` and callbacks)."""
    _ended.set()


def _watch(ended: threading.Event, seconds: float) -> None:
    if ended.wait(_SHARE * seconds):
        return
    logger.warning("interrupting: %.0f %% of the timeout of %s s are over", _SHARE * 100, seconds)
    os.kill(os.getpid(), signal.SIGINT)
    if not ended.wait((1 - _SHARE) * seconds + _GRACE_SECONDS):
        logger.error("killing: native code ignores the timeout of %s s", seconds)
        os.kill(os.getpid(), signal.SIGKILL)
