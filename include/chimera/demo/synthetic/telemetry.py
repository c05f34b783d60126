"""Provider metrics of a generated hour.

Counters are a closed form of absolute time (rate integrated from a fixed epoch), so they keep
rising from hour to hour, even if the hours are made in any order, or years apart.
"""

from __future__ import annotations

from math import erf, exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from include.chimera.demo.openmetrics import (
    Family,
    Labels,
    Series,
    Times,
    Values,
    number_text,
)
from include.chimera.demo.synthetic.draws import micros, profile_column, random_stream
from include.chimera.demo.synthetic.model_profiles import PROFILES, ModelProfile
from include.chimera.demo.synthetic.rhythm import EPOCH, load_since_epoch

if TYPE_CHECKING:
    from datetime import datetime

STEP_SECONDS = 30
BUCKETS_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, float("inf"))
UP = ("llm_provider_up", "Whether the provider answers its health check (1) or not (0).")
_TOKENS_PER_REQUEST = 1_250
_TYPICAL_COMPLETION = 180
_OUTAGE_RATIO = 0.08  # of a provider's hours
_OUTAGE_STEPS = (4, 25)  # 2 to 12 minutes


def hour_families(start: datetime, rows_per_hour: int) -> list[Family]:
    """Return the hour's samples, one every 30 s from its start."""
    times = micros(start) // 1000 + np.arange(0, 3_600_000, STEP_SECONDS * 1000, dtype=np.int64)
    load = load_since_epoch(times / 1000 - EPOCH.timestamp())
    share = rows_per_hour / 3600 / profile_column("weight").sum()
    requests = [(profile, np.floor(load * share * profile.weight)) for profile in PROFILES]
    return [
        _provider_up(start, times),
        _counter("llm_requests", "Requests sent to the provider.", times, requests),
        _counter(
            "llm_request_errors",
            "Requests that the provider failed.",
            times,
            [(profile, np.floor(count * profile.failed_ratio)) for profile, count in requests],
        ),
        Family(
            "llm_request_duration_seconds",
            "histogram",
            "Time from the request to its last token.",
            [_histogram(profile, times, count) for profile, count in requests],
        ),
        _counter(
            "llm_tokens",
            "Prompt and completion tokens.",
            times,
            [(profile, count * _TOKENS_PER_REQUEST) for profile, count in requests],
        ),
    ]


def _provider_up(start: datetime, times: Times) -> Family:
    rng = random_stream(start, purpose=5)
    metrics = []
    for provider in sorted({profile.provider_id for profile in PROFILES}):
        is_out, begin, steps = (
            rng.random(),
            rng.integers(0, len(times)),
            rng.integers(*_OUTAGE_STEPS),
        )
        up = np.ones(len(times))
        if is_out < _OUTAGE_RATIO:
            up[begin : begin + steps] = 0
        metrics.append([Series(UP[0], (("provider", provider),), times, up)])
    return Family(UP[0], "gauge", UP[1], metrics)


def _counter(
    name: str, description: str, times: Times, counts: list[tuple[ModelProfile, Values]]
) -> Family:
    return Family(
        name,
        "counter",
        description,
        [[Series(f"{name}_total", _labels(profile), times, count)] for profile, count in counts],
    )


def _histogram(profile: ModelProfile, times: Times, count: Values) -> list[Series]:
    """Distribute the requests over the buckets of the model's log-normal latency."""
    name, labels = "llm_request_duration_seconds", _labels(profile)
    median = (profile.ttft_ms + _TYPICAL_COMPLETION * profile.token_ms) / 1000
    sigma = profile.spread + 0.3
    buckets = [
        Series(
            f"{name}_bucket",
            (("le", number_text(bound) if bound == float("inf") else str(bound)), *labels),
            times,
            np.floor(count * (1 + erf(log(bound / median) / sigma / sqrt(2))) / 2),
        )
        for bound in BUCKETS_SECONDS
    ]
    total = count * median * exp(sigma**2 / 2)
    return [
        *buckets,
        Series(f"{name}_sum", labels, times, total),
        Series(f"{name}_count", labels, times, count),
    ]


def _labels(profile: ModelProfile) -> Labels:
    return (("model", profile.model_id), ("provider", profile.provider_id))
