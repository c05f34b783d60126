"""dbt's events as log lines with fields, instead of its console's text."""

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
# dbt's worker threads inherit no context: theirs is the main thread's, which speaks first.
_context: dict[str, object] = {}


def log_event(event: Any) -> None:  # noqa: ANN401 - dbt's EventMsg, a protobuf message
    """Log one event of dbt's at its own level; debug events are dropped.

    A dbtRunner callback. The line carries the event's name, the invocation id that the Delta
    commit of the model carries too, and for a node its id, status and seconds.
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
