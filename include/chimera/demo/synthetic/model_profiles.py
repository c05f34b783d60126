"""The models that the generator's platform offers: list prices, speed and temper.

Names, prices and numbers are invented, in the range of what providers asked for in 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from include.chimera.demo.feed import MODELS as MODELS_SCHEMA

_PRICED_AT = datetime(2025, 12, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ModelProfile:
    """One model as the generator sees it.

    Args:
        provider_id: Who serves it.
        name: Name within the provider.
        weight: Share of all requests, relative to the other models.
        input_usd_per_mtok: List price of a million prompt tokens; None: not published.
        output_usd_per_mtok: List price of a million completion tokens; None: not published.
        context_tokens: Size of the context window.
        ttft_ms: Median time to the first token.
        token_ms: Median time per completion token.
        spread: Sigma of the log-normal latency.
        failed_ratio: Share of requests that fail.
        filtered_ratio: Share of requests that the provider's filter refuses.
        weakness: How easily a red-team technique succeeds, 0 to 1.
    """

    provider_id: str
    name: str
    weight: float
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    context_tokens: int
    ttft_ms: float
    token_ms: float
    spread: float
    failed_ratio: float
    filtered_ratio: float
    weakness: float

    @property
    def model_id(self) -> str:
        """`<provider>/<name>`, unique over all providers."""
        return f"{self.provider_id}/{self.name}"


PROFILES = (
    ModelProfile(
        "altair", "altair-large", 14, 3.0, 15.0, 200_000, 620, 14, 0.35, 0.010, 0.020, 0.1
    ),
    ModelProfile("altair", "altair-small", 18, 0.8, 4.0, 200_000, 310, 7, 0.30, 0.006, 0.015, 0.2),
    ModelProfile("altair", "altair-tiny", 7, 0.25, 1.25, 100_000, 180, 4, 0.28, 0.005, 0.012, 0.3),
    ModelProfile("boreas", "boreas-4", 12, 2.5, 10.0, 128_000, 540, 11, 0.40, 0.014, 0.018, 0.15),
    ModelProfile(
        "boreas", "boreas-4-mini", 16, 0.15, 0.6, 128_000, 260, 6, 0.38, 0.009, 0.014, 0.3
    ),
    ModelProfile(
        "boreas", "boreas-reason", 4, 10.0, 40.0, 200_000, 4200, 18, 0.60, 0.030, 0.02, 0.1
    ),
    ModelProfile("cirrus", "cirrus-70b", 9, 0.9, 0.9, 32_768, 220, 5, 0.25, 0.022, 0.004, 0.45),
    ModelProfile("cirrus", "cirrus-8b", 6, 0.2, 0.2, 32_768, 110, 3, 0.22, 0.018, 0.003, 0.6),
    ModelProfile("dione", "dione-pro", 5, 1.25, 5.0, 1_000_000, 780, 10, 0.45, 0.016, 0.03, 0.2),
    ModelProfile("dione", "dione-flash", 6, 0.075, 0.3, 1_000_000, 240, 4, 0.35, 0.012, 0.025, 0.3),
    ModelProfile("ember", "ember-7b-chat", 2, None, None, 8_192, 340, 22, 0.80, 0.060, 0.0, 0.8),
    ModelProfile("ember", "ember-13b-chat", 1, None, None, 8_192, 520, 34, 0.85, 0.080, 0.0, 0.7),
)


def priced_models() -> pa.Table:
    """Return the rows of app.models, one per profile."""
    return pa.Table.from_pylist(
        [
            {
                "model_id": profile.model_id,
                "provider_id": profile.provider_id,
                "name": profile.name,
                "input_usd_per_mtok": profile.input_usd_per_mtok,
                "output_usd_per_mtok": profile.output_usd_per_mtok,
                "context_tokens": profile.context_tokens,
                "is_enabled": True,
                "updated_at": _PRICED_AT,
            }
            for profile in PROFILES
        ],
        schema=MODELS_SCHEMA,
    )
