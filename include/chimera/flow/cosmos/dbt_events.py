"""What dbt's runner tells while it works: log lines, and why a node failed.

Its events are logged as structured lines instead of console text.

Failures become our own error classes. Cosmos raises one class for everything, with a text that may
hold rows. dbt fires an event for each failure while the exception is still in flight: its cause
decides our class, so that a failed build is retried and reported like any other task.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog
from cosmos.exceptions import CosmosDbtRunError

from include.chimera.errors import (
    BuildOutageError,
    ChimeraError,
    LakeError,
    ModelError,
    ModelRowsError,
    RetryableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_RAISED = {
    "CatchableExceptionOnRun",
    "InternalErrorOnRun",
    "GenericExceptionOnRun",
    "MainEncounteredError",
}
_noted: list[BaseException] = []
_LEVELS = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NODE_FIELDS = {
    "unique_id": "dbt_node",
    "node_status": "dbt_status",
    "resource_type": "dbt_resource_type",
}
# dbt's worker threads inherit no context, so they reuse the main thread's, which logs first.
_context: dict[str, object] = {}


def log_event(event: Any) -> None:  # noqa: ANN401 - dbt's EventMsg, a protobuf message
    """Log a dbt event at its own level, dropping debug events (a dbtRunner callback).

    The line carries the event's name and the invocation id, which the model's Delta commit also
    carries; for a node, also its id, status and run time in seconds.
    """
    level = _LEVELS.get(event.info.level)
    if level is None or not event.info.msg.strip():
        return
    _context.update(structlog.contextvars.get_contextvars())
    fields = {**_context, "dbt_event": event.info.name, "invocation_id": event.info.invocation_id}
    node = getattr(event.data, "node_info", None)
    if node is not None and node.unique_id:
        fields |= {ours: getattr(node, theirs) for theirs, ours in _NODE_FIELDS.items()}
        if seconds := getattr(event.data, "execution_time", 0):
            fields["seconds"] = round(seconds, 3)
    structlog.get_logger("dbt").log(level, event.info.msg, **fields)


def note_failure(event: Any) -> None:  # noqa: ANN401 - dbt's EventMsg, a protobuf message
    """Remember why a node of this invocation failed (a dbtRunner callback)."""
    name = event.info.name
    node = getattr(getattr(event.data, "node_info", None), "unique_id", "") or "the project"
    if name == "MainReportVersion":  # an invocation's first event
        _noted.clear()
    elif name in _RAISED and (raised := sys.exception()) is not None:
        _noted.append(_translate(raised, node))
        _silence(raised)
    elif name == "LogTestResult" and event.data.status == "fail":
        _noted.append(
            ModelRowsError(
                expected="rows that pass the test",
                came=f"{event.data.num_failures} that don't",
                where=f"{node}; nothing is committed",
                remedy="run the test's compiled SQL for the rows; mend them at their source, or "
                "the test",
            )
        )


def _silence(raised: BaseException) -> None:
    """Blank the message of a third-party exception, such as one from a Python model.

    dbt copies the message from the exception after this event; Cosmos then raises it and Airflow
    logs it.
    """
    import duckdb  # noqa: PLC0415 - heavy
    from dbt_common.exceptions import DbtBaseException  # noqa: PLC0415 - heavy

    known = (ChimeraError, duckdb.Error, DbtBaseException)
    foreign = next((link for link in _chain(raised) if not isinstance(link, known)), None)
    if foreign is not None and not any(isinstance(link, ChimeraError) for link in _chain(raised)):
        text = f"{type(foreign).__name__}: its text is left out, it may hold rows"
        raised.args = (text,)
        if isinstance(raised, DbtBaseException):
            raised.msg = text  # type: ignore[attr-defined]  # of its runtime errors


def explain(error: BaseException) -> BaseException:
    """Return the cause of a Cosmos error if dbt reported one, else the error itself."""
    return _noted[0] if _noted and isinstance(error, CosmosDbtRunError) else error


def _translate(raised: BaseException, where: str) -> BaseException:
    """Return our error for an exception that dbt caught; return an unknown one unchanged."""
    import duckdb  # noqa: PLC0415 - heavy
    from dbt.exceptions import DependencyError, ParsingError  # noqa: PLC0415 - heavy
    from dbt_common.exceptions import CompilationError, DbtConfigError, DbtValidationError  # noqa: PLC0415 - heavy

    mistakes = (
        *(CompilationError, DbtConfigError, DbtValidationError, DependencyError, ParsingError),
        *(duckdb.ProgrammingError, duckdb.NotSupportedError),
    )
    rows = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)
    outages = (
        *(duckdb.OperationalError, duckdb.InternalError, duckdb.InterruptException),
        *(OSError, MemoryError),
    )
    own = next((link for link in _chain(raised) if isinstance(link, ChimeraError)), None)
    for link in _chain(raised):
        if type(link).__module__.startswith("pyspark.") and own is None:
            from include.chimera.lake.spark.failures import translate  # noqa: PLC0415 - heavy

            return translate(link, where) or raised
    for link in _chain(raised):
        came = type(link).__name__
        if isinstance(link, mistakes) and not isinstance(link, rows):
            return _model_error(own, came, where)
        if link is own:
            return own
        if isinstance(link, rows):
            return ModelRowsError(
                expected="values that fit the model's expressions and columns",
                came=came,
                where=f"{where}; nothing is committed",
                remedy="read the task's log; mend the rows at their source, or the model",
            )
        if isinstance(link, outages):
            return BuildOutageError(came=came, where=f"{where}; nothing is committed")
    return raised


def _model_error(own: ChimeraError | None, came: str, where: str) -> ChimeraError:
    """Return the error for a model's SQL or contract, terminal unless ours says otherwise."""
    if isinstance(own, (RetryableError, LakeError)):
        return own
    if own is not None:
        return ModelError(own.expected, own.came, own.where, own.remedy)
    return ModelError(came=came, where=f"{where}; nothing is committed")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
