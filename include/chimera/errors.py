"""The one exception tree.

Three classes decide what the retry policy does: `RetryableError` (the outside world: three
retries), `DataFaultError` (the data may be better next time: one retry) and `TerminalError` (no
retry helps). Each message has four parts: what was expected, what came, where, and what to do.
A class of one fault says the first and the last itself; messages and the runbook read them there.
"""

from __future__ import annotations

from typing import ClassVar


def visible(text: str, kept: str = "") -> str:
    r"""Return a text whose control and formatting characters are spelled out, `\u001b` for ESC.

    Args:
        text: It may come from data.
        kept: Characters that stay as they are.
    """
    return "".join(
        char if char in kept or char.isprintable() else f"\\u{ord(char):04x}" for char in text
    )


class ChimeraError(Exception):
    """The root: carries the four parts as attributes and survives pickling.

    Args:
        expected: What should have been there; "": what the class expects.
        came: What was there instead: names, types and counts, never a row's content.
        where: Table, file, source or setting.
        remedy: What to do next; "": what helps against the class.
    """

    expects: ClassVar[str] = ""
    helps: ClassVar[str] = ""
    retries: ClassVar[int | None] = None  # None: as many as the task is given

    def __init__(
        self, expected: str = "", came: str = "", where: str = "", remedy: str = ""
    ) -> None:
        said = (expected or self.expects, came, where, remedy or self.helps)
        parts = [visible(part.replace("\n", " ")) for part in said]
        expected, came, where, remedy = parts
        self.expected, self.came, self.where, self.remedy = expected, came, where, remedy
        super().__init__(f"Expected {expected}; came {came}. Where: {where}. Next: {remedy}")

    def __reduce__(self) -> tuple[type[ChimeraError], tuple[str, str, str, str]]:
        """Pickle by the four parts, so that a worker's error reaches its supervisor whole."""
        return type(self), (self.expected, self.came, self.where, self.remedy)


def kinds(root: type[ChimeraError] = ChimeraError) -> list[type[ChimeraError]]:
    """Return a class of errors and all below it that are defined so far."""
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


class RetryableError(ChimeraError):
    """The outside world failed in a way that passes."""

    retries = 3


class DataFaultError(ChimeraError):
    """The data is not what the contract says."""

    retries = 1


class TerminalError(ChimeraError):
    """No retry helps: a setting, a verdict or a programming error."""

    retries = 0


class UnexpectedError(ChimeraError):
    """An error of others, without its text; in no class: a task's own `retries` bound it."""

    expects = "a task that ends well, or fails in a way that it knows"
    helps = (
        "read the frames in the task's log; the error's own text is left out, for it may hold a row"
    )


class ConfigurationError(TerminalError):
    """A setting or a required file is missing or wrong."""


class SourceUnavailableError(RetryableError):
    """A source did not answer, or answered that it can't right now."""


class SourceChangedError(SourceUnavailableError):
    """A source changed while it was read; reading it anew may do at once."""

    expects = "log files that stay while they are read"
    helps = "nothing: it is read again by itself; if it persists, rotate by renaming"


class LakeError(Exception):
    """The lake can't be read or written: a class for each remedy, of which one is retried."""


class StorageAwayError(RetryableError, LakeError):
    """The lake's disk or object store does not answer, or a file is not where it should be."""

    expects = "storage that gives back the lake's files"
    helps = (
        "see that the lake's disk is mounted, or its object store answers (CHIMERA_LAKE_ROOT, "
        "AWS_ENDPOINT_URL); the table's last version is as it was, the task can run again"
    )


class StorageRefusedError(TerminalError, LakeError):
    """The lake's disk or object store is full, read-only, or does not let us in."""

    expects = "storage that takes the lake's files and lets us read them"
    helps = (
        "make space, or give back the permission or the key (docs/security.md lists what is "
        "needed); the table's last version is as it was, clear the task then"
    )


class LogDamagedError(TerminalError, LakeError):
    """A table's log, or a file that it names, is not what a writer wrote."""

    expects = "a table whose log and files are whole"
    helps = (
        "bring the damaged files back from a copy, or move the table's folder away and make the "
        'table anew: docs/runbook.md, "A table is damaged"'
    )


class NotDeltaError(TerminalError, LakeError):
    """Where a table should be is something else."""

    expects = "a Delta table, or nothing yet"
    helps = (
        "move away what stands there, or correct the name or CHIMERA_LAKE_ROOT; nothing was "
        "written over it"
    )


class ProtocolUnsupportedError(TerminalError, LakeError):
    """A table asks for more of Delta's protocol than the lake's readers or writers know."""

    expects = "a table that needs no more of Delta's protocol than deltalake and DuckDB know"
    helps = (
        "drop the table feature with the engine that set it (alter table … drop feature), or "
        "move the table's folder away and make the table anew: --full-refresh does not replace "
        "what another engine can read; do not raise the pinned versions for it"
    )


class PathUndecodableError(TerminalError, LakeError):
    """A path of the lake that its readers decode differently, or not at all."""

    expects = "a path that each reader of the lake decodes to the same file"
    helps = (
        "take plain letters, digits, - and _ for the lake's root and names; rename the folder or "
        "the file, and let the log name it as it is"
    )


class MemoryExhaustedError(RetryableError):
    """DuckDB reached its memory limit; what runs beside it holds memory too, so it may pass."""

    expects = "a query that fits into DuckDB's memory"
    helps = (
        "raise CHIMERA_DUCKDB_MEMORY_LIMIT or lower CHIMERA_DUCKDB_THREADS; rows spill to "
        "CHIMERA_STATE_DIR/spill, which needs space"
    )


class CommitConflictError(RetryableError):
    """Another writer committed to the same table first, again and again."""

    helps = "run it again; if it persists, look for two runs that write this table"


class GateOutageError(RetryableError):
    """A gate could not judge: DuckDB failed, not the rows and not the storage."""


class BuildOutageError(RetryableError):
    """A model could not be built: DuckDB or its storage failed, not the rows."""

    expects = "a model that can be built"
    helps = (
        "the task retries by itself; if it persists, look at memory, disk and the lake's storage"
    )


class ModelRowsError(DataFaultError):
    """A model's rows break one of its tests, or don't fit its columns."""


class ModelError(TerminalError):
    """A model can't be compiled, or has other columns than its contract."""

    expects = "a model that compiles, and has the columns of its contract"
    helps = "read the task's log, mend the model, deploy, clear the task"


class ContractError(DataFaultError):
    """A source's or a model's columns are not the contract's."""


class ConversionError(DataFaultError):
    """A value does not fit the type, function or constraint that it meets."""

    expects = "values that fit the types of their columns and expressions"
    helps = "mend the rows at their source, or the expression: try_cast gives null instead"


class ShrinkError(DataFaultError):
    """An hour would be replaced by fewer rows than it holds."""


class CountError(DataFaultError):
    """Rows read are not rows published + dead letters + duplicates."""


class VerificationError(TerminalError):
    """What a commit left behind is not what was to be committed."""


class DeltaRefusedError(TerminalError):
    """delta-rs refuses what was asked of it, for no reason that has a class of its own."""

    expects = "a table that takes what was asked of it"
    helps = "compare the table's columns, properties and history with what is to be done"


class StageDamagedError(DataFaultError):
    """A staged file is not the one that its manifest describes."""

    helps = "clear the extract task of this table and its gate; check the disk"


class SnapshotMissingError(TerminalError):
    """No run of that id has passed all its gates."""

    helps = "pick a run whose gates all passed; see its report"


class StageMissingError(TerminalError):
    """A gate found no staged files of its run."""


class NothingToAcceptError(TerminalError):
    """A person named a gate that did not fail, or a run that is not there."""


class LetterMissingError(ConfigurationError):
    """A person named a dead letter that is not there, or does not wait."""

    helps = "list them with their whole ids: python -m include.chimera dead-letters list"


class ControlRefusedError(TerminalError):
    """A person's command does not fit the state that the lake is in."""


class PublishingStoppedError(TerminalError):
    """A person has stopped publishing: nothing is committed until it is resumed."""

    expects = "a lake that may be published to"
    helps = "python -m include.chimera resume-publishing --reason '…', then clear the task"


class SourceLateError(TerminalError):
    """A source's hour is not complete although it was waited for: the wait was the retries."""

    helps = "see what holds the source back; then clear this task with its descendants"


class GateFailedError(TerminalError):
    """A gate's verdict: the batch may not be published."""
