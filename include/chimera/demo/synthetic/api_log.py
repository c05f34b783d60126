"""The API's log of a generated hour: one JSON line per request, a few of them late or malformed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from include.chimera.demo.feed import log_level, log_line
from include.chimera.demo.synthetic.draws import (
    CODES,
    FAILED,
    FILTERED,
    STATUSES,
    Draw,
    random_stream,
)
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from datetime import datetime

    from include.chimera.demo.synthetic.draws import Flags, Ints

LATE_LINE_RATIO = 0.01
_HTTP_STATUS = {
    None: 200,
    "rate_limited": 429,
    "timeout": 504,
    "upstream_error": 502,
    "context_length_exceeded": 413,
    "content_filter": 422,
}
_BYTES_PER_TOKEN = 4


def hour_lines(draw: Draw, previous: Draw) -> list[bytes]:
    """Return the lines of the hour's file.

    Args:
        draw: The hour's own generations.
        previous: The generations of the hour before, of whose lines about 1 % arrive only now.
    """
    late = np.flatnonzero(_late_lines(previous))
    on_time = np.flatnonzero(~_late_lines(draw))
    lines = [*_request_lines(previous, late), *_request_lines(draw, on_time)]
    rng = random_stream(draw.start, purpose=4)
    for malformed in _malformed_lines(lines[-1]):
        lines.insert(int(rng.integers(0, len(lines))), malformed)
    return lines


def request_ids(start: datetime, rows: Ints) -> list[str]:
    """Return the ids of the requests for these generations, as in their log lines."""
    label = hour_label(start)
    return [f"req-{label}-{row:07d}" for row in rows.tolist()]


def _late_lines(draw: Draw) -> Flags:
    rng = random_stream(draw.start, purpose=3)
    return np.asarray(rng.random(len(draw.created)) < LATE_LINE_RATIO)


def _request_lines(draw: Draw, rows: Ints) -> list[bytes]:
    stamps = np.datetime_as_string(draw.created[rows].astype("datetime64[us]"), unit="us")
    columns = zip(
        request_ids(draw.start, rows),
        stamps.tolist(),
        draw.status[rows].tolist(),
        draw.code[rows].tolist(),
        draw.latency_ms[rows].tolist(),
        draw.user[rows].tolist(),
        draw.completion_tokens[rows].tolist(),
        strict=True,
    )
    lines = []
    for request_id, stamp, status, code, latency_ms, user, tokens in columns:
        http_status = _HTTP_STATUS[CODES[code]]
        lines.append(
            log_line(
                f"{stamp}Z",
                log_level(http_status),
                request_id,
                "POST",
                "/v1/generations",
                http_status,
                latency_ms,
                f"user-{user:04d}",
                None if status in (FAILED, FILTERED) else 180 + tokens * _BYTES_PER_TOKEN,
                f"generation {STATUSES[status]}",
            )
        )
    return lines


def _malformed_lines(model: bytes) -> list[bytes]:
    """Return broken JSON, a truncated line, and a word in place of a number."""
    head, _, tail = model.partition(b'"status_code":')
    cut = len(model) // 2
    return [
        model.replace(b'"level":"', b'"level":', 1),
        model[:cut],
        head + b'"status_code":"none"' + tail[tail.index(b",") :],
    ]
