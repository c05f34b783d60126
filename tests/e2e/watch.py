"""A real Prometheus that scrapes a run's metrics and evaluates the alert rules, in seconds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from tenacity import retry, stop_after_delay, wait_fixed

from include.chimera.local.servers.ports import choose_port
from include.chimera.paths import INCLUDE
from tests.e2e.statsd import Exporter
from tests.integration.prometheus import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MONITORING = INCLUDE / "monitoring"


class Watch:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/v1"

    def ask(self, expression: str, seconds: float = 30) -> list[dict]:
        """Return the samples that an expression finds; wait for the first ones."""

        @retry(stop=stop_after_delay(seconds), wait=wait_fixed(0.5), reraise=True)
        def found() -> list[dict]:
            answer = httpx.get(f"{self._url}/query", params={"query": expression})
            samples = answer.raise_for_status().json()["data"]["result"]
            assert samples, expression
            return samples

        return found()

    def unwell(self) -> list[str]:
        """Return the rules whose evaluation fails."""
        groups = httpx.get(f"{self._url}/rules").json()["data"]["groups"]
        return [r["name"] for g in groups for r in g["rules"] if r["health"] == "err"]


@contextmanager
def watching(
    folder: Path, lines: Callable[[], list[str]], replaced: Mapping[str, str] | None = None
) -> Iterator[Watch]:
    """Start a Prometheus on our configuration, scraping and evaluating once a second.

    Args:
        folder: An empty folder for its state.
        lines: Returns all StatsD lines up to now.
        replaced: What stands in the rules, and what to put there instead.
    """
    port = choose_port(0)
    rules = (MONITORING / "alerts.yml").read_text()
    for old, new in (replaced or {}).items():
        assert old in rules, old
        rules = rules.replace(old, new)
    (folder / "alerts.yml").write_text(rules)
    with Exporter(lines) as exporter:
        config = (MONITORING / "prometheus.yml").read_text()
        for old, new in {
            "statsd-exporter:9102": exporter.address,
            "15s": "1s",
            "30s": "1s",
            "alertmanager:9093": f"127.0.0.1:{choose_port(0)}",
            "localhost:9090": f"127.0.0.1:{port}",
        }.items():
            assert old in config, old
            config = config.replace(old, new)
        (folder / "prometheus.yml").write_text(config)
        with serve(folder, port) as url:
            yield Watch(url)
