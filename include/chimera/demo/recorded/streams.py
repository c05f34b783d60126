"""Real traces as streams: a web server's access log and a Prometheus server's `up` samples."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from include.chimera.demo.feed import log_level, log_line
from include.chimera.demo.openmetrics import Family, Series
from include.chimera.demo.synthetic.draws import micros
from include.chimera.demo.synthetic.telemetry import UP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.chimera.window import Window

TimedLine = tuple[datetime, bytes]

# Source: https://httpd.apache.org/docs/2.4/logs.html#combined
COMBINED = re.compile(
    r'^(?P<client>\S+) \S+ \S+ \[[^\]]+\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" '
    r'(?P<status>\d{3}) (?P<size>\d+|-) "[^"]*" "(?P<agent>[^"]*)"$'
)


def spread(count: int, window: Window) -> list[datetime]:
    """Return `count` evenly spaced times, beginning at the window's start."""
    span = window.end - window.start
    return [window.start + span * number / count for number in range(count)]


def access_lines(path: Path, replay: Window) -> list[TimedLine]:
    """Return the access log as the API's log, each line with the time of its replay.

    A line that is not in the combined format is not changed: the pipeline must refuse it.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        lines = [line.removesuffix("\n") for line in file]
    moments = spread(len(lines), replay)
    return [
        (moment, _api_line(line, number, moment))
        for number, (line, moment) in enumerate(zip(lines, moments, strict=True), start=1)
    ]


def _api_line(line: str, number: int, moment: datetime) -> bytes:
    match = COMBINED.match(line)
    if match is None:
        return line.encode()
    status, size = int(match["status"]), match["size"]
    return log_line(
        f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
        log_level(status),
        f"access-{number:05d}",
        match["method"],
        match["path"],
        status,
        None,
        match["client"],
        None if size == "-" else int(size),
        match["agent"],
    )


def availability(paths: Sequence[Path], replay: Window, hour: Window) -> list[Family]:
    """Return the hour's share of the `up` samples, including outages; no family if it has none.

    Args:
        paths: `query_range` matrices of `up`, in order of time.
        replay: The hours over which each series' samples are spread, in their order.
        hour: The hour of the samples to return.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for path in paths:
        for series in json.loads(path.read_text()):
            # The host's first label is short and unique; `job` is not (three share one).
            provider = series["metric"]["instance"].partition(".")[0]
            values[provider].extend(float(value) for _, value in series["values"])
    metrics = []
    for provider, samples in sorted(values.items()):
        span = (replay.end - replay.start) // timedelta(milliseconds=1)
        times = micros(replay.start) // 1000 + np.arange(len(samples)) * span // len(samples)
        is_inside = (times >= micros(hour.start) // 1000) & (times < micros(hour.end) // 1000)
        up = np.array(samples)[is_inside]
        if len(up):
            metrics.append([Series(UP[0], (("provider", provider),), times[is_inside], up)])
    return [Family(UP[0], "gauge", UP[1], metrics)] if metrics else []
