"""Listens where a statsd-exporter would, and shows what it would show Prometheus.

The exporter is a Go program, for a container: what is written here follows its source.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import yaml

from include.chimera.paths import INCLUDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAPPING = INCLUDE / "monitoring" / "statsd_mapping.yml"


def parse(line: str) -> tuple[str, dict[str, str], float, str] | None:
    """Split a StatsD line with InfluxDB tags into name, tags, value and kind.

    As the exporter does: the value begins at the first colon, wherever it stands, and a line whose
    tags have one is dropped. None for those, and for kinds that Airflow does not send.
    """
    body, _, sample = line.partition(":")
    value, _, kind = sample.partition("|")
    name, *tags = body.split(",")
    pairs = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    is_sample = name and kind in {"c", "g", "ms"} and ":" not in value
    return (name, pairs, float(value), kind) if is_sample else None


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


@cache
def _rules() -> list[dict[str, Any]]:
    return list(yaml.safe_load(MAPPING.read_text())["mappings"])


@cache
def renamed(name: str) -> str | None:
    """Return the Prometheus name of a StatsD name by the first rule that matches, None: dropped."""
    rule, match = next(
        (rule, match) for rule in _rules() if (match := re.search(rule["match"], name))
    )
    if rule.get("action") == "drop":
        return None
    groups = {str(number): text for number, text in enumerate(match.groups(), start=1)}
    # Go's templates: without braces a group's name is as long as it can be; unknown ones are empty.
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda it: groups.get(it[1] or it[2], ""), rule["name"])


class Page:
    """What the mapping makes of StatsD lines, in Prometheus' text format.

    Timers are shown by their sum (seconds) and count alone, buckets are left out.
    """

    def __init__(self) -> None:
        self._shown: dict[str, float] = defaultdict(float)

    def add(self, lines: Iterable[str]) -> None:
        """Count more lines."""
        for name, tags, value, kind in filter(None, map(parse, lines)):
            target = renamed(name)
            if target is None:
                continue
            labels = ",".join(f'{key}="{text}"' for key, text in sorted(tags.items()))
            if kind == "ms":
                self._shown[f"{target}_sum{{{labels}}}"] += value / 1000
                self._shown[f"{target}_count{{{labels}}}"] += 1
            elif kind == "c":
                self._shown[f"{target}{{{labels}}}"] += value
            else:
                self._shown[f"{target}{{{labels}}}"] = value

    def text(self) -> str:
        """Return the page."""
        return "".join(f"{series} {value!r}\n" for series, value in self._shown.items())


class Exporter:
    """Serves what a sink's lines make at /metrics, as of now; use it as a context manager."""

    def __init__(self, lines: Callable[[], list[str]]) -> None:
        page, seen, lock = Page(), 0, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                nonlocal seen
                with lock:
                    fresh = lines()[seen:]
                    page.add(fresh)
                    seen += len(fresh)
                    text = page.text()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.encode())

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
