"""The one exception tree.

Three classes decide what the retry policy does: `RetryableError` (the outside world: three
retries), `DataFaultError` (the data may be better next time: one retry) and `TerminalError` (no
retry helps). Each message has four parts: what was expected, what came, where, and what to do.
"""

from __future__ import annotations


class ChimeraError(Exception):
    """The root: carries the four parts as attributes and survives pickling.

    Args:
        expected: What should have been there.
        came: What was there instead: names, types and counts, never a row's content.
        where: Table, file, source or setting.
        remedy: What to do next.
    """

    def __init__(self, expected: str, came: str, where: str, remedy: str) -> None:
        self.expected, self.came, self.where, self.remedy = expected, came, where, remedy
        super().__init__(f"Expected {expected}; came {came}. Where: {where}. Next: {remedy}")

    def __reduce__(self) -> tuple[type[ChimeraError], tuple[str, str, str, str]]:
        """Pickle by the four parts, so that a worker's error reaches its supervisor whole."""
        return type(self), (self.expected, self.came, self.where, self.remedy)


class RetryableError(ChimeraError):
    """The outside world failed in a way that passes."""


class DataFaultError(ChimeraError):
    """The data is not what the contract says."""


class TerminalError(ChimeraError):
    """No retry helps: a setting, a verdict or a programming error."""


class ConfigurationError(TerminalError):
    """A setting or a required file is missing or wrong."""


class SourceUnavailableError(RetryableError):
    """A source did not answer, or answered that it can't right now."""


class SourceChangedError(SourceUnavailableError):
    """A source changed while it was read; reading it anew may do at once."""


class StorageError(RetryableError):
    """The lake's disk or object store did not take or give back files: full, read-only, gone."""


class CommitConflictError(RetryableError):
    """Another writer committed to the same table first, again and again."""


class GateOutageError(RetryableError):
    """A gate could not judge: DuckDB or its storage failed, not the rows."""


class BuildOutageError(RetryableError):
    """A model could not be built: DuckDB or its storage failed, not the rows."""


class ModelRowsError(DataFaultError):
    """A model's rows break one of its tests, or don't fit its columns."""


class ModelError(TerminalError):
    """A model can't be compiled, or has other columns than its contract."""


class ContractError(DataFaultError):
    """A source's or a model's columns are not the contract's."""


class ShrinkError(DataFaultError):
    """An hour would be replaced by fewer rows than it holds."""


class CountError(DataFaultError):
    """Rows read are not rows published + dead letters + duplicates."""


class VerificationError(TerminalError):
    """What a commit left behind is not what was to be committed."""


class StageDamagedError(DataFaultError):
    """A staged file is not the one that its manifest describes."""


class SnapshotMissingError(TerminalError):
    """No run of that id has passed all its gates."""


class StageMissingError(TerminalError):
    """A gate found no staged files of its run."""


class NothingToAcceptError(TerminalError):
    """A person named a gate that did not fail, or a run that is not there."""


class ControlRefusedError(TerminalError):
    """A person's command does not fit the state that the lake is in."""


class PublishingStoppedError(TerminalError):
    """A person has stopped publishing: nothing is committed until it is resumed."""


class SourceLateError(TerminalError):
    """A source's hour is not complete although it was waited for: the wait was the retries."""


class GateFailedError(TerminalError):
    """A gate's verdict: the batch may not be published."""
