"""Log records that say which run they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from include.chimera.window import Run


def bind_run(run: Run, source: str = "") -> None:
    """Put the run's ids and window into every log line of this process from now on.

    Args:
        run: The DAG run.
        source: The table or model that the process works for, as its task names it.
    """
    structlog.contextvars.bind_contextvars(
        source=source,
        correlation_id=run.correlation_id,
        run_id=run.run_id,
        window_start=run.window.start.isoformat(),
        window_end=run.window.end.isoformat(),
    )
