"""A small stand-in for Prometheus: serves queries on loopback from the demo's own files.

Run it as `python -m include.chimera.demo.prometheus_imitation.metrics_server --folder F --port P`.
"""

from __future__ import annotations

import argparse
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from include.chimera.demo.prometheus_imitation.query_range import (
    BadQueryError,
    MetricsFolder,
    RangeQuery,
)
from include.chimera.errors import ChimeraError, DataFaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
QUERY, QUERY_RANGE = "/api/v1/query", "/api/v1/query_range"
BUILD_INFO = {"version": "2.42.0", "revision": "chimera-demo", "branch": "", "goVersion": ""}
_MAX_BODY_BYTES = 1_000_000


class MetricsServer(ThreadingHTTPServer):
    """Listens on loopback; port 0 picks a free one, which `server_port` tells."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.metrics = MetricsFolder(folder)
        super().__init__((HOST, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a query, a readiness check or the build information."""
        url = urlsplit(self.path)
        if url.path in (QUERY, QUERY_RANGE):
            self._answer_query(url.path, url.query)
        elif url.path == "/-/ready":
            self._send(HTTPStatus.OK, b"Prometheus Server is Ready.\n", "text/plain; charset=utf-8")
        elif url.path == "/api/v1/status/buildinfo":
            self._send_json(HTTPStatus.OK, {"status": "success", "data": BUILD_INFO})
        else:
            self._send(HTTPStatus.NOT_FOUND, b"404 page not found\n", "text/plain; charset=utf-8")

    def do_POST(self) -> None:
        """Answer a query whose parameters stand in the body, as a form."""
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(min(length, _MAX_BODY_BYTES)).decode("utf-8", "replace")
        url = urlsplit(self.path)
        if url.path in (QUERY, QUERY_RANGE):
            self._answer_query(url.path, f"{url.query}&{body}")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"404 page not found\n", "text/plain; charset=utf-8")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        """Log nothing: a request that went well is no news."""

    def _answer_query(self, path: str, encoded: str) -> None:
        parameters = dict(parse_qsl(encoded, keep_blank_values=True))
        try:
            if path == QUERY:
                result = self.server.metrics.newest(RangeQuery.of_moment(parameters))
            else:
                result = self.server.metrics.answer(RangeQuery.from_parameters(parameters))
        except BadQueryError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, "bad_data", error)
        except DataFaultError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", error)
        else:
            data = {"resultType": "vector" if path == QUERY else "matrix", "result": result}
            self._send_json(HTTPStatus.OK, {"status": "success", "data": data})

    def _refuse(self, status: HTTPStatus, kind: str, error: ChimeraError) -> None:
        self._send_json(status, {"status": "error", "errorType": kind, "error": str(error)})

    def _send_json(self, status: HTTPStatus, answer: Mapping[str, object]) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder of <hour>.om files")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0: a free one")
    options = parser.parse_args(arguments)
    with MetricsServer(options.folder, options.port) as server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
