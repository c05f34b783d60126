"""Try the Prometheus server as an hour does: login, clock, metrics, scrapes, how far back."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from include.chimera.observe.findings import checking, skew
from include.chimera.profiles.metric_maps import metric_map
from include.chimera.settings import get_settings
from include.chimera.sources.prometheus.prometheus_api import ask, told_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.observe.findings import Finding
    from include.chimera.sources.prometheus.prometheus_api import PrometheusServer

_RECENT = 300.0  # seconds that Prometheus looks back for a sample
_JUST_BEFORE = 0.001
_BACK = (1 / 24, 1.0, 7.0, 30.0)  # days


def check_prometheus(server: PrometheusServer) -> Iterator[Finding]:
    """Check everything that an hour needs of Prometheus."""
    told = None
    with checking("prometheus: login") as login:
        told = told_time(server, f"timestamp({metric_map().heartbeat})")
        login.text = f"{server.url} answers"
    yield login.finding()
    if login.faults:
        return
    if told:
        yield skew("prometheus: clock", told)
    yield _check_metrics(server)
    yield _check_scrapes(server)
    yield _check_history(server)


def _check_metrics(server: PrometheusServer) -> Finding:
    with checking("prometheus: metrics") as metrics:
        end = time.time()
        asked = {"start": end - _RECENT, "end": end, "step": 60.0}
        known, found = metric_map(), Counter[str]()
        for name, query in [(known.heartbeat, known.heartbeat), *known.queries]:
            answer = ask(server, "query_range", {**asked, "query": query}, f"Prometheus, {query}")
            found[name] += len(answer)
        metrics.text = (
            f"{len(known.metrics)} metrics, {found.total()} series of the last five minutes"
        )
        missing = [name for name, series in found.items() if not series]
        if missing := [name for name in missing if name not in known.rare]:
            remedy = "see /targets of Prometheus, or rename by metric_relabel_configs"
            metrics.fault(f"no series of {', '.join(missing)}", remedy)
    return metrics.finding()


def _check_scrapes(server: PrometheusServer) -> Finding:
    step = get_settings().scrape_step_seconds
    with checking("prometheus: scrapes") as scrapes:
        newest = _newest(server, time.time())
        before = _newest(server, newest - _JUST_BEFORE) if newest else None
        if not newest or not before:
            text = f"fewer than two samples of {metric_map().heartbeat} in five minutes"
            scrapes.fault(text, "scrape at least every 120 s")
            return scrapes.finding()
        seconds = round(newest - before)
        scrapes.text = f"every {seconds} s, read every {step} s"
        if seconds > step:
            scrapes.fault(scrapes.text, f"CHIMERA_SCRAPE_STEP_SECONDS={seconds}")
    return scrapes.finding()


def _check_history(server: PrometheusServer) -> Finding:
    """Look how far back there are samples: an hour older than the retention can't be read."""
    now, seen = time.time(), 0.0
    with checking("prometheus: history") as history:
        for days in _BACK:
            if _newest(server, now - days * 86_400):
                seen = days
        span = timedelta(days=seen)
        history.text = f"samples of {span} ago and since; older hours come without metrics"
        if not seen:
            text = "no sample that is an hour old: the last full hour has none"
            history.fault(text, "wait an hour, or see --storage.tsdb.retention.time")
    return history.finding()


def _newest(server: PrometheusServer, moment: float) -> float | None:
    """Return the time of the newest sample as of a moment, both in seconds since 1970."""
    heartbeat = metric_map().heartbeat
    parameters: dict[str, str | float] = {"query": f"timestamp({heartbeat})", "time": moment}
    found = ask(server, "query", parameters, f"Prometheus, {heartbeat}")
    times = [float(msgspec.json.decode(series)["value"][1]) for series in found]
    return max(times, default=None)
