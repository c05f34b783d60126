"""Log records that say which run they belong to, and what they say of an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

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


# An error of ours as text, whatever raised it again; the parts start lines of their own.
_OURS = re.compile(r"(Expected .+?; came .+?\.) (Where: .+?\.) (Next: .+)", re.DOTALL)
_LONGEST_PART = 1000


def errors_of(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return class and text of what a log line's exception was, the outermost first.

    Args:
        line: A line as Airflow's structlog writes it: `error_detail` lists the exceptions of a
            chain; elsewhere `exception` is such a list, or a stack trace as text.
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
    """Return what a log line's exception says, "" where it has none; long parts are cut.

    Only our own errors are repeated: the text of any other may hold a row or a password.

    Args:
        line: A line as Airflow's structlog writes it.
        log: Where it stands.
    """
    chain = errors_of(line)
    for _, text in chain:
        ours = _OURS.search(text)
        if ours:
            # Raised again by Airflow's class it keeps its own, by which the runbook knows it.
            name = next(name for name, said in reversed(chain) if ours[0] in said)
            return "\n".join([f"{name}: {_cut(ours[1])}", _cut(ours[2]), _cut(ours[3])])
    if not chain:
        return ""
    return f"{chain[0][0]}: not told here, for its text may hold a row\nNext: read it in {log}"


def _cut(text: str) -> str:
    more = len(text) - _LONGEST_PART
    return f"{text[:_LONGEST_PART]} … and {more:,} characters more" if more > 0 else text
