"""Show progress: as one moving line on a terminal, elsewhere as a line per change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.status import Status

from include.chimera.local.runs.follow import Counts, count_tasks

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console

    from include.chimera.local.servers.airflow_api import TaskState
    from include.chimera.window import Window

_PLAIN_EVERY_SECONDS = 10.0


class Progress:
    """Shows permanent lines and, on a terminal, a moving one. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun = time.monotonic()
        self._status = Status("", console=console) if console.is_terminal else None
        self._shown = ""
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        """Show the moving line."""
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the moving line."""
        if self._status:
            self._status.stop()

    def say(self, text: str) -> None:
        """Show a permanent line."""
        self.console.print(f"{self._clock()} {text}", soft_wrap=True)
        if self._status:
            self._status.update(text)

    def show_tasks(self, hour: Window, tasks: list[TaskState]) -> None:
        """Show a run's progress."""
        parts = [
            f"{stage} {counts.done}/{counts.total}" + _aside(counts)
            for stage, counts in count_tasks(tasks).items()
        ]
        text = f"{hour.start:%Y-%m-%d %H:%M} UTC: {', '.join(parts) or 'waiting'}"
        if self._status:
            self._status.update(text)
        elif text != self._shown and time.monotonic() - self._shown_at > _PLAIN_EVERY_SECONDS:
            self.say(text)
            self._shown, self._shown_at = text, time.monotonic()

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._begun)
        return f"[{seconds // 60:02d}:{seconds % 60:02d}]"


def _aside(counts: Counts) -> str:
    told = {"running": counts.running, "not run": counts.not_run}
    text = ", ".join(f"{count} {word}" for word, count in told.items() if count)
    return f" ({text})" if text else ""
