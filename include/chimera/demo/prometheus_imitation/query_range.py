"""Queries over a folder of OpenMetrics files, one file per hour.

Answers what Prometheus answers to a plain selector: at each step the newest sample that is at
most five minutes old; and, at one moment, to `timestamp(selector)`: when that sample was taken.
Source: https://prometheus.io/docs/prometheus/2.42/querying/basics/#staleness; release 3 leaves
out a sample that is exactly five minutes old.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from include.chimera.demo.prometheus_imitation.openmetrics import (
    Labels,
    Series,
    Times,
    Values,
    number_text,
    read_series,
    unescape,
)
from include.chimera.errors import TerminalError
from include.chimera.window import HOUR, parse_hour

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Matrix = list[dict[str, object]]
Vector = list[dict[str, object]]

_API = "https://prometheus.io/docs/prometheus/2.42/querying/api/#range-queries"
LOOKBACK_MS = 300_000
MAX_POINTS = 11_000
_HOURS_IN_MEMORY = 64
_HOUR_FILES = "????????T??.om"
_SELECTOR = re.compile(r"^\s*([a-zA-Z_:][\w:]*)?\s*(?:\{(.*)\})?\s*$", re.ASCII | re.DOTALL)
_TIMESTAMP = re.compile(r"^\s*timestamp\s*\((.*)\)\s*$", re.DOTALL)
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)', re.ASCII)
_DURATION = re.compile(r"^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$", re.ASCII)
_DURATION_UNITS_MS = (86_400_000, 3_600_000, 60_000, 1000, 1)


class BadQueryError(TerminalError):
    """A parameter is not what Prometheus takes; the server answers it with 400 bad_data."""


def _refusal(*, parameter: str, expected: str, came: str) -> BadQueryError:
    return BadQueryError(
        expected=expected, came=came, where=f'parameter "{parameter}"', remedy=f"see {_API}"
    )


@dataclass(frozen=True)
class Matcher:
    """One condition on a label; a label that a series lacks counts as empty."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a series with these labels meets the condition."""
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) is (self.operator == "=")
        return (re.fullmatch(self.value, found) is not None) is (self.operator == "=~")


@dataclass(frozen=True)
class RangeQuery:
    """A selector over an inclusive span of time, in milliseconds since 1970."""

    matchers: tuple[Matcher, ...]
    start: int
    end: int
    step: int

    @classmethod
    def of_moment(cls, parameters: Mapping[str, str]) -> RangeQuery:
        """Read `query`, a selector inside `timestamp()`, and `time`, by default now.

        Raises:
            BadQueryError: One is unreadable.
        """
        asked = _TIMESTAMP.match(parameters.get("query", ""))
        if asked is None:
            raise _refusal(parameter="query", expected="timestamp(selector)", came="something else")
        moment = _read_moment("time", parameters.get("time") or str(time.time()))
        return cls(read_selector(asked[1]), moment, moment, 1)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> RangeQuery:
        """Read `query`, `start`, `end` and `step`.

        Raises:
            BadQueryError: One is missing, unreadable or asks for more than 11,000 points.
        """
        start, end = (_read_moment(name, parameters.get(name, "")) for name in ("start", "end"))
        step = _read_step(parameters.get("step", ""))
        if end < start:
            raise _refusal(
                parameter="end", expected="an end after the start", came="an earlier one"
            )
        if (end - start) // step > MAX_POINTS:
            raise _refusal(
                parameter="step",
                expected=f"at most {MAX_POINTS} points per series",
                came=f"{(end - start) // step} of them",
            )
        return cls(read_selector(parameters.get("query", "")), start, end, step)


def read_selector(query: str) -> tuple[Matcher, ...]:
    """Read `name{label="value",…}` into its conditions, the name's among them.

    Raises:
        BadQueryError: The text is another expression, or selects nothing in particular.
    """
    match = _SELECTOR.match(query)
    if match is None:
        raise _refusal(parameter="query", expected='name{label="value"}', came="something else")
    name, body = match.groups()
    matchers = [Matcher("__name__", "=", name)] if name else []
    position = 0
    while body and position < len(body.rstrip()):
        found = _MATCHER.match(body, position)
        if found is None:
            raise _refusal(parameter="query", expected='label="value"', came="something else")
        matchers.append(_read_matcher(found))
        position = found.end()
    if all(matcher.matches({}) for matcher in matchers):
        raise _refusal(parameter="query", expected="a name or a label", came="neither")
    return tuple(matchers)


def _read_matcher(found: re.Match[str]) -> Matcher:
    label, operator, value = found[1], found[2], unescape(found[3])
    try:
        re.compile(value if "~" in operator else "")
    except re.error:
        raise _refusal(
            parameter="query", expected="a regular expression", came=f"another text for {label}"
        ) from None
    return Matcher(label, operator, value)


def _read_moment(parameter: str, text: str) -> int:
    """Read seconds since 1970 or an RFC 3339 time, as milliseconds."""
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):
        moment = _read_rfc3339(text)
    if moment is None or moment.tzinfo is None:
        raise _refusal(parameter=parameter, expected="a timestamp", came="no such thing")
    return round(moment.timestamp() * 1000)


def _read_rfc3339(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _read_step(text: str) -> int:
    """Read seconds or a duration such as 30s or 1m30s, as milliseconds."""
    try:
        step = round(float(text) * 1000)
    except (ValueError, OverflowError):
        match = _DURATION.match(text)
        numbers = match.groups(default="0") if match else ()
        step = sum(int(n) * unit for n, unit in zip(numbers, _DURATION_UNITS_MS, strict=False))
    if step <= 0:
        raise _refusal(parameter="step", expected="a duration above zero", came="none")
    return step


class MetricsFolder:
    """The folder's hours, each parsed when first asked for and again when its file changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hours: OrderedDict[Path, tuple[int, list[Series]]] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, query: RangeQuery) -> Matrix:
        """Return the matrix of a range query, series in order of their labels."""
        steps = np.arange(query.start, query.end + 1, query.step, dtype=np.int64)
        found = self._selected(query)
        matrix: Matrix = []
        for labels in sorted(found):
            values = _newest_at(steps, found[labels])
            if values:
                matrix.append({"metric": dict(labels), "values": values})
        return matrix

    def newest(self, query: RangeQuery) -> Vector:
        """Return when each series' newest sample was taken, at the query's one moment."""
        moment = np.array([query.start], dtype=np.int64)
        vector: Vector = []
        for labels, parts in sorted(self._selected(query).items()):
            timed = [replace(part, values=part.times / 1000) for part in parts]
            named = {name: value for name, value in labels if name != "__name__"}
            vector += [{"metric": named, "value": value} for value in _newest_at(moment, timed)]
        return vector

    def _selected(self, query: RangeQuery) -> dict[Labels, list[Series]]:
        """Return the series that meet the query's conditions, hour by hour, by their labels."""
        found: dict[Labels, list[Series]] = {}
        for series in self._series_between(query.start - LOOKBACK_MS, query.end):
            labels = tuple(sorted((("__name__", series.name), *series.labels)))
            if all(matcher.matches(dict(labels)) for matcher in query.matchers):
                found.setdefault(labels, []).append(series)
        return found

    def _series_between(self, start: int, end: int) -> Iterator[Series]:
        """Yield the series of the hours that overlap [start, end], hour by hour."""
        for path in sorted(self._folder.glob(_HOUR_FILES)):
            hour = int(parse_hour(path.stem).timestamp() * 1000)
            if hour <= end and hour + HOUR // timedelta(milliseconds=1) > start:
                yield from self._hour_series(path)

    def _hour_series(self, path: Path) -> list[Series]:
        changed_at = path.stat().st_mtime_ns
        with self._lock:
            cached = self._hours.pop(path, None)
            if cached is None or cached[0] != changed_at:
                cached = (changed_at, read_series(path.read_text(encoding="utf-8")))
            self._hours[path] = cached
            while len(self._hours) > _HOURS_IN_MEMORY:
                self._hours.popitem(last=False)
        return cached[1]


def _newest_at(steps: Times, parts: list[Series]) -> list[list[object]]:
    """Return [seconds, value] for each step that has a sample at most five minutes old."""
    times = np.concatenate([part.times for part in parts])
    values: Values = np.concatenate([part.values for part in parts])
    newest = np.searchsorted(times, steps, side="right") - 1
    is_fresh = (newest >= 0) & (times[newest] >= steps - LOOKBACK_MS)
    return [
        [millis // 1000 if millis % 1000 == 0 else millis / 1000, number_text(value)]
        for millis, value in zip(
            steps[is_fresh].tolist(), values[newest[is_fresh]].tolist(), strict=True
        )
    ]
