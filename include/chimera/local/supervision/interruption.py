"""Turn signals into one exception, so that every exit runs the clean-up."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from include.chimera.local.supervision.processes import identity, is_same

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 1.0


class StoppedError(BaseException):
    """A signal asked to stop. No `except Exception` swallows it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


@contextmanager
def interruptible(owner_pid: int | None) -> Iterator[None]:
    """Raise `StoppedError` in this thread on a signal, or when the owner has ended.

    Only the first signal counts: the clean-up that it starts is bounded and is not interrupted.

    Args:
        owner_pid: The owner: a process to end with, such as the `make` that started us and may be
            killed; None: there is none.
    """

    def stop(number: int, _: object) -> NoReturn:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise StoppedError(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    if owner_pid is not None:
        threading.Thread(target=_watch, args=(owner_pid,), daemon=True).start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(owner_pid: int) -> None:
    created = identity(owner_pid)
    while created is not None and is_same(owner_pid, created):
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
