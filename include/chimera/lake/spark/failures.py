"""Turn a Spark server's errors into ours. Their texts may hold values of rows: they are left out.

An error that can't be told apart, such as that of a server that has gone, counts as an outage.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from pyspark.errors import (
    AnalysisException,
    ArithmeticException,
    ArrayIndexOutOfBoundsException,
    DateTimeException,
    NumberFormatException,
    PySparkException,
    UnsupportedOperationException,
)

from include.chimera.errors import BuildOutageError, ModelError, ModelRowsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.errors import ChimeraError

SESSION_VIEWS = "lake_answers"
_MISTAKES = (AnalysisException, UnsupportedOperationException)
_ROWS = (
    ArithmeticException,
    ArrayIndexOutOfBoundsException,
    DateTimeException,
    NumberFormatException,
)


def translate(error: BaseException, where: str) -> ChimeraError | None:
    """Return our error for one of Spark's, None if it is none of them."""
    if not isinstance(error, (PySparkException, grpc.RpcError)):
        return None
    came = type(error).__name__
    if isinstance(error, _ROWS):
        return ModelRowsError(
            expected="values that fit the model's expressions and columns",
            came=came,
            where=f"{where}; nothing is committed",
            remedy="mend the rows at their source, or the model",
        )
    # A server that was started anew has the session's id, but none of its views.
    if isinstance(error, _MISTAKES) and SESSION_VIEWS not in str(error):
        return ModelError(came=came, where=f"{where}; nothing is committed")
    return BuildOutageError(
        came=f"{came} of the Spark server", where=f"{where}; nothing is committed"
    )


@contextmanager
def spark_errors(where: str) -> Iterator[None]:
    """Raise our errors instead of Spark's.

    Raises:
        ChimeraError: What Spark's error means.
    """
    try:
        yield
    except (PySparkException, grpc.RpcError) as error:
        known = translate(error, where)
        raise known or error from None
