"""The platform's daily rhythm: busy in the European afternoon, quiet at night."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from include.chimera.demo.openmetrics import Values

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_AMPLITUDE = 0.45
_PEAK_HOUR = 15
_OMEGA = 2 * np.pi / 86_400


def load_at(moment: datetime) -> float:
    """Return the load at `moment`; its mean over a day is 1."""
    return float(1 + _AMPLITUDE * np.cos(_OMEGA * (_seconds(moment) - _PEAK_HOUR * 3600)))


def load_since_epoch(seconds: Values) -> Values:
    """Integrate the load from `EPOCH` (a midnight) to each of these seconds after it.

    The result only rises, because the amplitude is below 1, so a counter made from it needs no
    other hour.
    """
    phase = -_PEAK_HOUR * 3600 * _OMEGA
    swing = np.sin(_OMEGA * seconds + phase) - np.sin(phase)
    return np.asarray(seconds + _AMPLITUDE / _OMEGA * swing, np.float64)


def _seconds(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()
