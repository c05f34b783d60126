"""Metric samples as OpenMetrics text: written for promtool and read by the demo's own server.

Source: https://prometheus.io/docs/specs/om/open_metrics_spec/ (text format).
"""

from __future__ import annotations

import json
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

_LABEL = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")', re.ASCII)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


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
        metrics: One entry per label set: the series that share it and its times (one for a gauge or
            a counter; buckets, count and sum for a histogram).
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    description: str
    metrics: list[list[Series]]

    @property
    def sample_count(self) -> int:
        """The number of lines of the family's samples."""
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
    """Yield a label set's samples ordered by time: a histogram's points may not interleave."""
    heads = [f"{series.name}{_label_text(series.labels)} " for series in metric]
    columns = [[number_text(value) for value in series.values.tolist()] for series in metric]
    for index, millis in enumerate(metric[0].times.tolist()):
        tail = f" {millis // 1000}" + (f".{millis % 1000:03d}" if millis % 1000 else "")
        for head, column in zip(heads, columns, strict=True):
            yield head + column[index] + tail


def _label_text(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def number_text(value: float) -> str:
    """Return a sample's value as Prometheus writes it: exact, NaN, +Inf and -Inf included."""
    if value != value:  # noqa: PLR0124 -- the one portable test for NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def read_series(text: str) -> list[Series]:
    """Parse the output of `write_families`.

    Raises:
        DataFaultError: A line is not a sample, or the final `# EOF` is missing.
    """
    samples: dict[str, list[tuple[int, float]]] = defaultdict(list)
    *lines, end = text.splitlines() or [""]
    try:
        for line in lines:
            if not line.startswith("#"):
                series, value, seconds = line.rsplit(" ", 2)
                # Prometheus truncates seconds x 1000 (model/textparse/openmetricsparse.go).
                samples[series].append((int(float(seconds) * 1000), float(value)))
    except ValueError:
        end = ""
    if end != "# EOF":
        raise DataFaultError(
            expected="samples with timestamps, and '# EOF'",
            came="something else, or a part of it",
            where="OpenMetrics text",
            remedy="remove the file and seed its hour again",
        )
    return [_series(head, *zip(*points, strict=True)) for head, points in samples.items()]


def _series(head: str, times: tuple[int, ...], values: tuple[float, ...]) -> Series:
    name, _, labels = head.partition("{")
    # JSON uses the same escapes as OpenMetrics.
    read = ((label, json.loads(value, strict=False)) for label, value in _LABEL.findall(labels))
    return Series(name, tuple(sorted(read)), np.array(times, np.int64), np.array(values))
