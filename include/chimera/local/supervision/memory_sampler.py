"""A thread that samples the total memory of a stack's processes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psutil

from include.chimera.local.supervision.processes import memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_EVERY_SECONDS = 4.0  # to look at forty processes takes a tenth of a second of CPU


class MemorySampler:
    """Records the peak of the total memory. Use it as a context manager.

    Args:
        processes: Returns the processes to sum up; the sampler adds its own process.
    """

    def __init__(self, processes: Callable[[], list[psutil.Process]]) -> None:
        self._processes = processes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0
        self.peak_count = 0

    def __enter__(self) -> Self:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        self._is_over.set()
        self._thread.join(timeout=10.0)

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY_SECONDS):
            processes = [psutil.Process(), *self._processes()]
            total = memory_bytes(processes)
            if total > self.peak_bytes:
                self.peak_bytes, self.peak_count = total, len(processes)
