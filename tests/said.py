"""What Airflow's log would say of an exception that leaves a task, in both of its forms."""

import json
from traceback import format_exception

from structlog.tracebacks import ExceptionDictTransformer


def said_of(error: BaseException) -> str:
    """Return its text, its representation, and its chain as text and as JSON."""
    # As airflow.sdk's logging configures it.
    transform = ExceptionDictTransformer(use_rich=False, show_locals=False)
    told = transform((type(error), error, error.__traceback__))
    text = "".join(format_exception(error))
    return "\n".join([str(error), repr(error), text, json.dumps(told, ensure_ascii=False)])
