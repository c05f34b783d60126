"""Metric samples as OpenMetrics text: written for promtool and read by the demo's own server.

Source: https://prometheus.io/docs/specs/om/open_metrics_spec/ (text format).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from include.chimera.errors import DataFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator

Labels = tuple[tuple[str, str], ...]
Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_SAMPLE = re.compile(
    r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (NaN|[-+]?(?:Inf|[\d.]+(?:e[-+]?\d+)?)) (\d+(?:\.\d+)?)",
    re.ASCII,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"', re.ASCII)
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_REMEDY = "remove the file and seed its hour again"
_UNESCAPED = {coded: plain for plain, coded in _ESCAPED.items()}


@dataclass(frozen=True)
class Series:
    """One series; times are milliseconds since 1970, ascending."""

    name: str
    labels: Labels
    times: Times
    values: Values


@dataclass(frozen=True)
class Family:
    """One metric family.

    Args:
        name: Name without the suffixes that the kind adds.
        kind: The family's type.
        description: What its values mean.
        metrics: One entry per label set: the series that share it and its times (one of a
            gauge or a counter; buckets, count and sum of a histogram).
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    description: str
    metrics: list[list[Series]]

    @property
    def sample_count(self) -> int:
        """How many lines the family's samples take."""
        return sum(len(series.times) for metric in self.metrics for series in metric)


def write_families(families: list[Family]) -> bytes:
    """Return the families as one OpenMetrics exposition."""
    lines: list[str] = []
    for family in families:
        lines += [
            f"# TYPE {family.name} {family.kind}",
            f"# HELP {family.name} {family.description}",
        ]
        for metric in family.metrics:
            lines.extend(_metric_lines(metric))
    return ("\n".join([*lines, "# EOF"]) + "\n").encode()


def _metric_lines(metric: list[Series]) -> Iterator[str]:
    """Yield a label set's samples moment by moment: a histogram's points may not interleave."""
    heads = [f"{series.name}{_label_text(series.labels)} " for series in metric]
    columns = [[number_text(value) for value in series.values.tolist()] for series in metric]
    for index, millis in enumerate(metric[0].times.tolist()):
        tail = f" {millis // 1000}" + (f".{millis % 1000:03d}" if millis % 1000 else "")
        for head, column in zip(heads, columns, strict=True):
            yield head + column[index] + tail


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = (
        f'{name}="{"".join(_ESCAPED.get(letter, letter) for letter in value)}"'
        for name, value in labels
    )
    return "{" + ",".join(pairs) + "}"


def number_text(value: float) -> str:
    """Return a sample's value as Prometheus writes it: exact, NaN, +Inf and -Inf included."""
    if value != value:  # noqa: PLR0124 -- the one portable test for NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def read_series(text: str) -> list[Series]:
    """Parse an exposition with a timestamp on each sample.

    Raises:
        DataFaultError: A line is no sample, or the final `# EOF` is missing.
    """
    *lines, rest = text.split("\n")
    if not lines or lines[-1] != "# EOF" or rest:
        raise DataFaultError(
            expected="a file that ends in '# EOF'",
            came=f"{len(lines)} lines without it",
            where="OpenMetrics text",
            remedy=_REMEDY,
        )
    samples: dict[tuple[str, str], tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise DataFaultError(
                expected="name{labels} value timestamp",
                came="something else",
                where=f"OpenMetrics text, line {number}",
                remedy=_REMEDY,
            )
        name, labels, value, seconds = match.groups()
        times, values = samples[name, labels or ""]
        # Prometheus truncates seconds x 1000 (model/textparse/openmetricsparse.go), so do we.
        times.append(int(float(seconds) * 1000))
        values.append(float(value))
    return [
        Series(name, read_labels(labels), np.array(times, np.int64), np.array(values, np.float64))
        for (name, labels), (times, values) in samples.items()
    ]


def read_labels(text: str) -> Labels:
    """Parse `name="value",…` into pairs sorted by name, escapes undone."""
    return tuple(sorted((name, unescape(value)) for name, value in _LABEL.findall(text)))


def unescape(text: str) -> str:
    """Undo the escapes of a quoted label value."""
    return re.sub(r'\\[\\"n]', lambda match: _UNESCAPED[match.group()], text)
