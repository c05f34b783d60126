"""A small stand-in for Prometheus: answers what the pipeline asks, from the demo's own files.

Run it as `python -m include.chimera.demo.metrics_server --folder F --port P`. There is one file an
hour. `query_range` takes a metric's name and answers, at each step, its newest sample that is at
most five minutes old; `query` takes `timestamp(name)` and answers when that sample was taken.
Source: https://prometheus.io/docs/prometheus/2.42/querying/basics/#staleness; release 3 leaves
out a sample that is exactly five minutes old.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from include.chimera.demo.openmetrics import Labels, Series, Times, number_text, read_series
from include.chimera.errors import DataFaultError
from include.chimera.window import HOUR, parse_hour

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOKBACK_MS = 300_000
MAX_POINTS = 11_000
_NAME = re.compile(r"[a-zA-Z_:][\w:]*", re.ASCII)
_HOUR_MS = HOUR // timedelta(milliseconds=1)


class MetricsServer(ThreadingHTTPServer):
    """Listens on loopback, unless another address is given; port 0: any free, see `server_port`."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, host: str = "127.0.0.1") -> None:
        self.folder = folder
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a query."""
        url = urlsplit(self.path)
        find = {"/api/v1/query": _newest, "/api/v1/query_range": _range}.get(url.path)
        if find is None:
            self._send(HTTPStatus.NOT_FOUND, status="error", errorType="not_found")
            return
        try:
            data = find(self.server.folder, dict(parse_qsl(url.query)))
        except (KeyError, ValueError, OverflowError):
            self._send(HTTPStatus.BAD_REQUEST, status="error", errorType="bad_data")
        except DataFaultError:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, status="error", errorType="internal")
        else:
            self._send(HTTPStatus.OK, status="success", data=data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        """Don't log requests."""

    def _send(self, code: HTTPStatus, **answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _range(folder: Path, asked: Mapping[str, str]) -> dict[str, object]:
    """Answer a range query; both ends are inclusive.

    Raises:
        KeyError, ValueError, OverflowError: Prometheus would not accept a parameter.
    """
    start, end, step = (round(float(asked[name]) * 1000) for name in ("start", "end", "step"))
    if step <= 0 or not 0 <= (end - start) // step <= MAX_POINTS:
        raise ValueError
    steps, name = np.arange(start, end + 1, step, dtype=np.int64), asked["query"]
    result = [
        {"metric": {"__name__": name, **dict(labels)}, "values": values}
        for labels, parts in _series_between(folder, name, start, end)
        if (values := _newest_at(steps, parts))
    ]
    return {"resultType": "matrix", "result": result}


def _newest(folder: Path, asked: Mapping[str, str]) -> dict[str, object]:
    """Return the timestamp of each series' newest sample as of `time`, by default now.

    Raises:
        KeyError, ValueError, OverflowError: Prometheus would not accept a parameter.
    """
    found = re.fullmatch(r"timestamp\((.+)\)", asked["query"])
    moment = round(float(asked.get("time", time.time())) * 1000)
    result = [
        {"metric": dict(labels), "value": value}
        for labels, parts in _series_between(folder, found[1] if found else "", moment, moment)
        for value in _newest_at(
            np.array([moment]), [replace(part, values=part.times / 1000) for part in parts]
        )
    ]
    return {"resultType": "vector", "result": result}


def _series_between(
    folder: Path, name: str, start: int, end: int
) -> list[tuple[Labels, list[Series]]]:
    """Return the metric's series, sorted by labels, each in hourly parts.

    Raises:
        ValueError: The name is not a metric's.
        DataFaultError: A file is not an OpenMetrics exposition.
    """
    if not _NAME.fullmatch(name):
        raise ValueError
    found: dict[Labels, list[Series]] = {}
    for path in sorted(folder.glob("????????T??.om")):
        hour = int(parse_hour(path.stem).timestamp() * 1000)
        if hour <= end and hour + _HOUR_MS > start - LOOKBACK_MS:
            for series in _read(path, path.stat().st_mtime_ns):
                if series.name == name:
                    found.setdefault(series.labels, []).append(series)
    return sorted(found.items(), key=itemgetter(0))


@lru_cache(maxsize=64)
def _read(path: Path, changed_at: int) -> list[Series]:  # noqa: ARG001 - a part of the cache's key
    return read_series(path.read_text(encoding="utf-8"))


def _newest_at(steps: Times, parts: list[Series]) -> list[tuple[float, str]]:
    """Return time (seconds) and value for each step with a sample at most five minutes old."""
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    newest = np.searchsorted(times, steps, side="right") - 1
    is_fresh = (newest >= 0) & (times[newest] >= steps - LOOKBACK_MS)
    found = zip(steps[is_fresh].tolist(), values[newest[is_fresh]].tolist(), strict=True)
    return [(millis / 1000, number_text(value)) for millis, value in found]


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder of <hour>.om files")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0: a free one")
    options = parser.parse_args(arguments)
    with MetricsServer(options.folder, options.port) as server, suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
