"""Random draws for one generated hour: plain arrays, from which rows are made.

Each hour has its own random streams, seeded from its label, so it is the same whichever other hours
are requested.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log

import numpy as np
import numpy.typing as npt

from include.chimera.demo.synthetic.model_profiles import PROFILES
from include.chimera.demo.synthetic.rhythm import load_at
from include.chimera.window import HOUR, hour_label

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LATE_RATIO = 0.03
STATUSES = ("succeeded", "failed", "filtered")
SUCCEEDED, FAILED, FILTERED = range(3)
CODES = (
    None,
    "rate_limited",
    "timeout",
    "upstream_error",
    "context_length_exceeded",
    "content_filter",
    "moderation_review",
)
TIMEOUT, CONTENT_FILTER, MODERATION_REVIEW = (
    CODES.index(code) for code in ("timeout", "content_filter", "moderation_review")
)
USERS = 400
TECHNIQUE_LISTS = (
    None,
    ["roleplay"],
    ["base64"],
    ["payload_splitting"],
    ["translation"],
    ["roleplay", "base64"],
    ["translation", "payload_splitting"],
)

_SEED = 20_260_101
_FAILURE_ODDS = (0.5, 0.2, 0.25, 0.05)  # of the codes 1 to 4
_REVIEWED_RATIO = 0.2  # of the late successes, which a review changes to filtered
_TECHNIQUE_RATIO = 0.12  # the red team's share of the traffic
_SOONEST_MICROS, _LATEST_MICROS = 120e6, 5_400e6  # delay of a late change: 2 to 90 minutes
_HOUR_MICROS = 3_600_000_000


@dataclass(frozen=True)
class Draw:
    """One hour's generations: arrays of equal length, in order of creation.

    Args:
        start: The hour's start.
        created: Microseconds since 1970.
        settled: Microseconds since 1970 of the last change; equal to `created` if there is none.
        model: Index into the profiles.
        user: Number of the user.
        session: Number of the user's session within the hour.
        status: Index into the statuses, as created.
        final_status: Index into the statuses, after the last change.
        code: Index into the error codes, as created.
        final_code: Index into the error codes, after the last change.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the completion, zero for failed rows.
        ttft_ms: Time to the first token, NaN for failed rows.
        latency_ms: Time to the last token.
        technique: Index into the technique lists.
    """

    start: datetime
    created: Ints
    settled: Ints
    model: Ints
    user: Ints
    session: Ints
    status: Ints
    final_status: Ints
    code: Ints
    final_code: Ints
    prompt_tokens: Ints
    completion_tokens: Ints
    ttft_ms: Floats
    latency_ms: Floats
    technique: Ints

    @property
    def changes_after_hour(self) -> Flags:
        """Which rows change after the hour's end."""
        return np.asarray(self.settled >= micros(self.start + HOUR))


def micros(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def random_stream(start: datetime, purpose: int) -> np.random.Generator:
    """Return the random stream of one hour and one purpose."""
    return np.random.default_rng([_SEED, int(hour_label(start).replace("T", "")), purpose])


def profile_column(name: str) -> Floats:
    """Return one field of all model profiles, NaN for a profile without it."""
    return np.array([getattr(profile, name) for profile in PROFILES], np.float64)


def draw_moments(rng: np.random.Generator, start: datetime, count: int) -> Ints:
    """Return `count` ascending times within the hour, as microseconds since 1970."""
    return micros(start) + np.sort(rng.integers(0, _HOUR_MICROS, count))


def draw_generations(start: datetime, rows_per_hour: int) -> Draw:
    """Draw one hour's generations; their number follows the daily rhythm."""
    rng = random_stream(start, purpose=1)
    count = round(rows_per_hour * load_at(start + HOUR / 2))
    weights = profile_column("weight")
    model = rng.choice(len(PROFILES), count, p=weights / weights.sum())
    created = draw_moments(rng, start, count)
    status, code = _draw_status(rng, model)
    is_late = rng.random(count) < LATE_RATIO
    delay = np.exp(rng.uniform(log(_SOONEST_MICROS), log(_LATEST_MICROS), count)).astype(np.int64)
    is_reviewed = is_late & (status == SUCCEEDED) & (rng.random(count) < _REVIEWED_RATIO)
    prompt, completion = _draw_tokens(rng, model, status)
    ttft_ms, latency_ms = _draw_latency(rng, model, completion)
    has_technique = rng.random(count) < _TECHNIQUE_RATIO
    return Draw(
        start=start,
        created=created,
        settled=created + np.where(is_late, delay, 0),
        model=model,
        user=(rng.random(count) ** 2 * USERS).astype(np.int64),
        session=rng.integers(1, 5, count),
        status=status,
        final_status=np.where(is_reviewed, FILTERED, status),
        code=code,
        final_code=np.where(is_reviewed, MODERATION_REVIEW, code),
        prompt_tokens=prompt,
        completion_tokens=completion,
        ttft_ms=np.where(status == FAILED, np.nan, ttft_ms),
        latency_ms=np.where(code == TIMEOUT, 60_000.0, latency_ms),
        technique=np.where(has_technique, rng.integers(1, len(TECHNIQUE_LISTS), count), 0),
    )


def _draw_status(rng: np.random.Generator, model: Ints) -> tuple[Ints, Ints]:
    chance = rng.random(len(model))
    failed = profile_column("failed_ratio")[model]
    refused = failed + profile_column("filtered_ratio")[model]
    status = np.where(chance < failed, FAILED, np.where(chance < refused, FILTERED, SUCCEEDED))
    failure = rng.choice(len(_FAILURE_ODDS), len(model), p=_FAILURE_ODDS) + 1
    code = np.where(status == FAILED, failure, np.where(status == FILTERED, CONTENT_FILTER, 0))
    return status, code


def _draw_tokens(rng: np.random.Generator, model: Ints, status: Ints) -> tuple[Ints, Ints]:
    count = len(model)
    limit = profile_column("context_tokens")[model] / 2
    prompt = np.minimum(np.ceil(rng.lognormal(6.3, 1.1, count)), limit)
    completion = np.minimum(np.ceil(rng.lognormal(5.2, 0.8, count)), 4096)
    return prompt.astype(np.int64), np.where(status == FAILED, 0, completion.astype(np.int64))


def _draw_latency(rng: np.random.Generator, model: Ints, completion: Ints) -> tuple[Floats, Floats]:
    """Draw a log-normal wait for the first token and a log-normal pace for the others."""
    count = len(model)
    spread = profile_column("spread")[model]
    wait = profile_column("ttft_ms")[model] * np.exp(spread * rng.standard_normal(count))
    pace = profile_column("token_ms")[model] * np.exp(0.15 * rng.standard_normal(count))
    return wait.round(3), (wait + completion * pace).round(3)
