"""Listens where a statsd-exporter would, and shows what it would show Prometheus."""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import yaml

from include.chimera.paths import INCLUDE

MAPPING = INCLUDE / "monitoring" / "statsd_mapping.yml"


def parse(line: str) -> tuple[str, dict[str, str], float, str] | None:
    """Split a StatsD line with InfluxDB tags into name, tags, value and kind."""
    body, _, kind = line.rpartition("|")
    body, _, value = body.rpartition(":")  # tag values such as run ids have colons of their own
    name, *tags = body.split(",")
    pairs = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    return (name, pairs, float(value), kind) if name and kind in {"c", "g", "ms"} else None


class StatsdSink:
    """A UDP socket that keeps every line; use it as a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                self.lines += self._socket.recv(65536).decode().splitlines()
            except TimeoutError:
                continue

    def variables(self) -> dict[str, str]:
        """Return what .env.example says about StatsD, with this socket's address."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
        }


def exposition(lines: list[str]) -> str:
    """Return the page that the mapping makes of StatsD lines, in Prometheus' text format.

    Timers are shown by their sum (seconds) and count alone, buckets are left out.
    """
    rules: list[dict[str, Any]] = yaml.safe_load(MAPPING.read_text())["mappings"]
    shown: dict[str, float] = defaultdict(float)
    for name, tags, value, kind in filter(None, map(parse, lines)):
        rule, match = next(
            (rule, match) for rule in rules if (match := re.search(rule["match"], name))
        )
        if rule.get("action") == "drop":
            continue
        target = re.sub(r"\$(\d)", lambda group, match=match: match[int(group[1])], rule["name"])
        labels = ",".join(f'{key}="{text}"' for key, text in sorted(tags.items()))
        if kind == "ms":
            shown[f"{target}_sum{{{labels}}}"] += value / 1000
            shown[f"{target}_count{{{labels}}}"] += 1
        elif kind == "c":
            shown[f"{target}{{{labels}}}"] += value
        else:
            shown[f"{target}{{{labels}}}"] = value
    return "".join(f"{series} {value!r}\n" for series, value in shown.items())


class Exporter:
    """Serves one page at /metrics; use it as a context manager."""

    def __init__(self, page: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
