"""The one exception tree.

Three classes decide what the retry policy does: `RetryableError` (external: three retries),
`DataFaultError` (the data may be better next time: one retry) and `TerminalError` (no retry helps).
Each message has four parts: what was expected, what came, where, and what to do. A class for a
single fault defines the first and the last as `expects` and `helps`; alerts and the runbook use
them.
"""

from __future__ import annotations

from typing import ClassVar

CLI = "./chimera"
"""How pages and messages call the command line: a file in the project's root (ADR 33)."""


def visible(text: str, kept: str = "") -> str:
    r"""Escape control and formatting characters in a text, e.g. ESC as `\u001b`.

    Args:
        text: Text that may come from data.
        kept: Characters that are not escaped.
    """
    return "".join(
        char if char in kept or char.isprintable() else f"\\u{ord(char):04x}" for char in text
    )


class ChimeraError(Exception):
    """Base class: keeps the four parts as attributes and can be pickled.

    Args:
        expected: What should have been there; "": the class's `expects`.
        came: What was there instead: names, types and counts, never a row's content.
        where: Table, file, source or setting.
        remedy: What to do next; "": the class's `helps`.
    """

    expects: ClassVar[str] = ""
    helps: ClassVar[str] = ""
    retries: ClassVar[int | None] = None  # None: the task's own `retries`

    def __init__(
        self, expected: str = "", came: str = "", where: str = "", remedy: str = ""
    ) -> None:
        said = (expected or self.expects, came, where, remedy or self.helps)
        parts = [visible(part.replace("\n", " ")) for part in said]
        expected, came, where, remedy = parts
        self.expected, self.came, self.where, self.remedy = expected, came, where, remedy
        super().__init__(f"Expected {expected}; came {came}. Where: {where}. Next: {remedy}")

    def __reduce__(self) -> tuple[type[ChimeraError], tuple[str, str, str, str]]:
        """Pickle the four parts, so that a worker's error reaches its supervisor complete."""
        return type(self), (self.expected, self.came, self.where, self.remedy)


def kinds(root: type[ChimeraError] = ChimeraError) -> list[type[ChimeraError]]:
    """Return an error class and all its subclasses that are defined so far."""
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


class RetryableError(ChimeraError):
    """A temporary external failure."""

    retries = 3


class DataFaultError(ChimeraError):
    """The data breaks its contract."""

    retries = 1


class TerminalError(ChimeraError):
    """No retry helps: a setting, a verdict or a programming error."""

    retries = 0


class UnexpectedError(ChimeraError):
    """A foreign error without its text; in none of the three, so the task's `retries` apply."""

    expects = "a task that ends well, or fails in a way that it knows"
    helps = (
        "read the frames in the task's log; the error's own text is left out, for it may hold a row"
    )


class ConfigurationError(TerminalError):
    """A setting or a required file is missing or wrong."""


class SourceUnavailableError(RetryableError):
    """A source did not answer, or answered that it is unavailable."""


class SourceChangedError(SourceUnavailableError):
    """A source changed while it was read; an immediate retry may succeed."""

    expects = "log files that stay while they are read"
    helps = "nothing: it is read again by itself; if it persists, rotate by renaming"


class LakeError(Exception):
    """The lake can't be read or written; a subclass for each remedy, of which one is retried."""


class StorageAwayError(RetryableError, LakeError):
    """The lake's disk or object store does not answer, or a file is not where it should be."""

    expects = "storage that gives back the lake's files"
    helps = (
        "see that the lake's disk is mounted, or its object store answers (CHIMERA_LAKE_ROOT, "
        "AWS_ENDPOINT_URL); the table's last version is as it was, the task can run again"
    )


class StorageRefusedError(TerminalError, LakeError):
    """The lake's disk or object store is full, read-only, or denies access."""

    expects = "storage that takes the lake's files and lets us read them"
    helps = (
        "make space, or give back the permission or the key (docs/security.md lists what is "
        "needed); the table's last version is as it was, clear the task then"
    )


class LogDamagedError(TerminalError, LakeError):
    """A table's log, or a file that it names, is corrupt."""

    expects = "a table whose log and files are whole"
    helps = (
        "bring the damaged files back from a copy, or move the table's folder away and make the "
        'table anew: docs/runbook.md, "A table is damaged"'
    )


class NotDeltaError(TerminalError, LakeError):
    """A table's folder holds something other than a Delta table."""

    expects = "a Delta table, or nothing yet"
    helps = (
        "move away what stands there, or correct the name or CHIMERA_LAKE_ROOT; nothing was "
        "written over it"
    )


class ProtocolUnsupportedError(TerminalError, LakeError):
    """A table needs a Delta feature that the lake's readers or writers do not support."""

    expects = "a table that needs no more of Delta's protocol than deltalake and DuckDB know"
    helps = (
        "drop the table feature with the engine that set it (alter table … drop feature), or "
        "move the table's folder away and make the table anew: --full-refresh does not replace "
        "what another engine can read; do not raise the pinned versions for it"
    )


class PathUndecodableError(TerminalError, LakeError):
    """A path in the lake that its readers decode differently, or not at all."""

    expects = "a path that each reader of the lake decodes to the same file"
    helps = (
        "take plain letters, digits, - and _ for the lake's root and names; rename the folder or "
        "the file, and let the log name it as it is"
    )


class MemoryExhaustedError(RetryableError):
    """DuckDB reached its memory limit; a retry may succeed when others have freed memory."""

    expects = "a query that fits into DuckDB's memory"
    helps = (
        "raise CHIMERA_DUCKDB_MEMORY_LIMIT or lower CHIMERA_DUCKDB_THREADS; rows spill to "
        "CHIMERA_STATE_DIR/spill, which needs space"
    )


class CommitConflictError(RetryableError):
    """Every attempt to commit lost to another writer of the same table."""

    helps = "run it again; if it persists, look for two runs that write this table"


class GateOutageError(RetryableError):
    """A gate could not judge because DuckDB failed, not the rows or the storage."""


class BuildOutageError(RetryableError):
    """A model could not be built because DuckDB or its storage failed, not the rows."""

    expects = "a model that can be built"
    helps = (
        "the task retries by itself; if it persists, look at memory, disk and the lake's storage"
    )


class ModelRowsError(DataFaultError):
    """A model's rows break one of its tests, or don't fit its columns."""


class ModelError(TerminalError):
    """A model can't be compiled, or its columns differ from its contract."""

    expects = "a model that compiles, and has the columns of its contract"
    helps = "read the task's log, mend the model, deploy, clear the task"


class ContractError(DataFaultError):
    """A source's or a model's columns differ from the contract."""


class ConversionError(DataFaultError):
    """A value does not fit a type, function or constraint."""

    expects = "values that fit the types of their columns and expressions"
    helps = "mend the rows at their source, or the expression: try_cast gives null instead"


class ShrinkError(DataFaultError):
    """An hour would be replaced by fewer rows than it holds."""


class CountError(DataFaultError):
    """Rows read do not equal rows published + dead letters + duplicates."""


class VerificationError(TerminalError):
    """A commit differs from what should have been committed."""


class DeltaRefusedError(TerminalError):
    """delta-rs refused an operation, for a reason without a class of its own."""

    expects = "a table that takes what was asked of it"
    helps = "compare the table's columns, properties and history with what is to be done"


class StageDamagedError(DataFaultError):
    """A staged file is missing or changed, or a run's record is damaged."""

    helps = "clear the extract task of this table and its gate; check the disk"


class SnapshotMissingError(TerminalError):
    """No run with that id has passed all its gates."""

    helps = "pick a run whose gates all passed; see its report"


class StageMissingError(TerminalError):
    """A gate found no staged files of its run."""


class NothingToAcceptError(TerminalError):
    """A person named a gate that did not fail, or a run that does not exist."""


class LetterMissingError(ConfigurationError):
    """A person named a dead letter that does not exist, or is not waiting."""

    helps = f"list them with their whole ids: {CLI} dead-letters list"


class ControlRefusedError(TerminalError):
    """A person's command does not fit the lake's state."""


class PublishingStoppedError(TerminalError):
    """A person has stopped publishing: nothing is committed until it is resumed."""

    expects = "a lake that may be published to"
    helps = f"{CLI} resume-publishing --reason '…', then clear the task"


class SourceLateError(TerminalError):
    """A source's hour is still incomplete after the wait, which took the place of retries."""

    helps = "see what holds the source back; then clear this task with its descendants"


class GateFailedError(TerminalError):
    """A gate's verdict: the staged rows may not be published."""
