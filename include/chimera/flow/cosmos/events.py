"""Log dbt's events as structured lines instead of console text."""

from __future__ import annotations

import logging
from typing import Any

import structlog

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
