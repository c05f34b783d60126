"""Describe errors for alerts: what failed and what to do, with the steps for each class.

Only our own errors are quoted, with their four parts. Any other error is named by its class alone,
because its text may hold a row or a password.
"""

from __future__ import annotations

from dataclasses import dataclass

from include.chimera import errors

_LOG = "Read the task's log: the link leads there."
_CLEAR = "Clear the task with its descendants; each of them may run again."

# The most specific class wins. An error class with `helps` gives its own first step.
STEPS: dict[type[BaseException], tuple[str, ...]] = {
    **{kind: (kind.helps, _CLEAR) for kind in errors.kinds() if kind.helps},
    errors.SourceUnavailableError: (
        "Check that the source answers, and the connection of its name in Airflow.",
        _CLEAR,
    ),
    errors.ShrinkError: (
        "If rows were removed on purpose, trigger the hour with allow_shrink.",
        "Else bring them back at the source, and clear the task.",
    ),
    errors.RetryableError: ("Wait until the outside world is well again.", _CLEAR),
    errors.ContractError: (
        "Compare a source's columns with docs/data-dictionary.md, a model's with its yml.",
        _CLEAR,
    ),
    errors.DataFaultError: ("Mend the data at its source.", _CLEAR),
    errors.ConfigurationError: ("Correct the setting or file that the message names.", _CLEAR),
    errors.GateFailedError: ("See the gate's rules: mend the rows, or accept them.", _CLEAR),
    errors.TerminalError: (_LOG, "No retry helps: mend what the message names.", _CLEAR),
    TimeoutError: ("Look for a slow source or a full machine.", _CLEAR),
    KeyboardInterrupt: ("Look for a slow query or a full machine: it was stopped.", _CLEAR),
}
_UNKNOWN = (_LOG, _CLEAR)
_DEATH = (
    "Look at the machine's memory and at the scheduler's log: the process was killed or lost.",
    _CLEAR,
)


@dataclass(frozen=True)
class Fault:
    """A failure as an alert describes it.

    Args:
        name: The error's class.
        text: The text of our own error, "" for any other.
        steps: What to do.
    """

    name: str
    text: str
    steps: tuple[str, ...]

    @classmethod
    def of(cls, error: BaseException | None) -> Fault:
        """Describe an error, or our own error that caused it; None: the process was killed."""
        if error is None:
            return cls("sudden death", "the process ended without a word", _DEATH)
        own = cause(error)
        text = str(own) if isinstance(own, errors.ChimeraError) else ""
        steps = next((STEPS[each] for each in type(own).__mro__ if each in STEPS), _UNKNOWN)
        return cls(type(own).__name__, text, steps)

    def facts(self) -> list[tuple[str, str]]:
        """Return the failure as an alert's facts."""
        return [("error", f"{self.name}: {self.text}" if self.text else self.name)]


def cause(error: BaseException) -> BaseException:
    """Return our own error that this one was raised from, else the error itself."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, errors.ChimeraError):
            return link
        link = link.__cause__
    return error
