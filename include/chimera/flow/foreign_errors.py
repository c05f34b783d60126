"""Keep third-party exception text out of task logs.

Airflow logs an exception with its whole chain, and the text of a third-party one may hold a row.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from include.chimera.alerts.causes import cause
from include.chimera.errors import ChimeraError, UnexpectedError
from include.chimera.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

_KNOWN = (ChimeraError, AirflowException, AirflowRuntimeError)


@contextmanager
def own_words() -> Iterator[None]:
    """Replace a third-party exception by one that gives its class, place and frames, but no text.

    Our errors, Airflow's, and signals to stop pass, but without third-party exceptions in their
    chain. Also a decorator: `@own_words()`.

    Raises:
        UnexpectedError: Instead of any other exception.
    """
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - each is raised again
        told = _told(error)
        _cut(told)
        raise told.with_traceback(error.__traceback__) from told.__cause__


def _told(error: BaseException) -> BaseException:
    if isinstance(error, _KNOWN) or not isinstance(error, Exception):
        return error
    own = cause(error)
    return own if isinstance(own, ChimeraError) else _unexpected(error)


def _cut(error: BaseException) -> None:
    """Cut the chain of an exception before the first one that is neither ours nor Airflow's."""
    link = error
    while (before := link.__cause__) is not None and isinstance(before, _KNOWN):
        link = before
    link.__cause__ = None  # Python then leaves out the context too


def _unexpected(error: Exception) -> UnexpectedError:
    kind, code = type(error), error.errno if isinstance(error, OSError) else None
    came = f"{kind.__module__}.{kind.__qualname__}" + (f", {os.strerror(code)}" if code else "")
    return UnexpectedError(came=came, where=_place(error))


def _place(error: Exception) -> str:
    """Return the innermost line of our code that an exception passed, and where it was raised."""
    frames = [
        (Path(frame.filename), f"line {frame.lineno}, in {frame.name}")
        for frame in extract_tb(error.__traceback__)
    ]
    ours = [
        f"{path.relative_to(PROJECT)}, {line}"
        for path, line in frames
        if path.is_relative_to(PROJECT) and "site-packages" not in path.parts
    ]
    path, line = frames[-1]
    raised = f"{path.parent.name}/{path.name}, {line}"
    return "; raised in ".join([*ours[-1:], raised])
