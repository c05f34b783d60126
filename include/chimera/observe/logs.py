"""Bind a run's ids to log lines, and read errors back from them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.chimera.window import Run


def bind_run(run: Run, source: str = "") -> None:
    """Add the run's ids and window to every later log line of this process.

    Args:
        run: The DAG run.
        source: The table or model that the process works on, as in the task's id.
    """
    structlog.contextvars.bind_contextvars(
        source=source,
        correlation_id=run.correlation_id,
        run_id=run.run_id,
        window_start=run.window.start.isoformat(),
        window_end=run.window.end.isoformat(),
    )


# One of our errors as text, even if re-raised as another class: its three parts.
_OURS = re.compile(r"(Expected .+?; came .+?\.)\s(Where: .+?\.)\s(Next: .+)", re.DOTALL)
_LONGEST_PART = 1000


def is_ours(text: str) -> bool:
    """Does a text quote one of our errors, which hold no row?"""
    return _OURS.search(text) is not None


def errors_of(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return class and text of each exception in a log line, the outermost first.

    Args:
        line: A line as Airflow's structlog writes it: `error_detail` lists a chain of exceptions;
            otherwise `exception` is such a list, or a stack trace as text.
    """
    found = line.get("error_detail") or line.get("exception") or []
    if isinstance(found, str):
        name, _, text = found.strip().rpartition("\n")[2].partition(": ")
        ours = _OURS.search(found)
        return [(name.rpartition(".")[2], ours[0] if ours else text)]
    return [
        (str(each.get("exc_type")), str(each.get("exc_value")))
        for each in found
        if isinstance(each, dict)
    ]


def describe_error(line: Mapping[str, Any], log: str) -> str:
    """Return the text of a log line's exception, "" if it has none; long parts are cut.

    Only our own errors are quoted: the text of any other may hold a row or a password.

    Args:
        line: A line as Airflow's structlog writes it.
        log: The log that holds the line.
    """
    chain = errors_of(line)
    for _, text in chain:
        ours = _OURS.search(text)
        if ours:
            # If Airflow re-raised it as its own class, give ours, which the runbook lists.
            name = next(name for name, said in reversed(chain) if ours[0] in said)
            return "\n".join([f"{name}: {_cut(ours[1])}", _cut(ours[2]), _cut(ours[3])])
    if not chain:
        return ""
    return f"{chain[0][0]}: not told here, for its text may hold a row\nNext: read it in {log}"


def _cut(text: str) -> str:
    more = len(text) - _LONGEST_PART
    return f"{text[:_LONGEST_PART]} … and {more:,} characters more" if more > 0 else text
