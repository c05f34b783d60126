"""The models that the generated platform offers: list prices, speed and failure ratios.

Names, prices and numbers are invented, in the range of the providers' prices of 2025.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow.csv import read_csv

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


PROFILES = tuple(
    ModelProfile(**row)
    for row in read_csv(Path(__file__).with_name("model_profiles.csv")).to_pylist()
)


def priced_models() -> pa.Table:
    """Return the rows of app.models, one per profile."""
    same = {"is_enabled": True, "updated_at": _PRICED_AT}
    rows = [{"model_id": profile.model_id, **asdict(profile), **same} for profile in PROFILES]
    return pa.Table.from_pylist(rows, schema=MODELS_SCHEMA)
