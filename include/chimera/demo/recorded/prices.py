"""Real list prices (genai-prices) as rows of app.models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import pyarrow as pa

from include.chimera.demo.feed import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    _Price = float | Mapping[str, float]  # one, or `base` and tiers of long contexts
    _Prices = Mapping[str, _Price]


class _DatedPrices(TypedDict):
    prices: _Prices
    constraint: NotRequired[object]


def listed_models(path: Path, mentioned: set[tuple[str, str]], updated_at: datetime) -> pa.Table:
    """Return one row per listed model, then one without prices per model found only in rows.

    Args:
        path: genai-prices' data file.
        mentioned: (provider_id, model_id) of the replayed rows.
        updated_at: The rows' `updated_at`.
    """
    rows = {row["model_id"]: row for row in _listed_rows(json.loads(path.read_text()))}
    for provider_id, model_id in sorted(mentioned):
        rows.setdefault(
            model_id,
            {
                "model_id": model_id,
                "provider_id": provider_id,
                "name": model_id.removeprefix(f"{provider_id}/"),
                "is_enabled": True,
            },
        )
    stamped = [row | {"updated_at": updated_at} for row in rows.values()]
    return pa.Table.from_pylist(stamped, schema=MODELS)


def _listed_rows(providers: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, object]]:
    for provider in providers:
        for model in provider["models"]:
            prices = _unconditional(model["prices"])
            yield {
                "model_id": f"{provider['id']}/{model['id']}",
                "provider_id": provider["id"],
                "name": model.get("name", model["id"]),
                "input_usd_per_mtok": _base_price(prices.get("input_mtok")),
                "output_usd_per_mtok": _base_price(prices.get("output_mtok")),
                "context_tokens": model.get("context_window"),
                "is_enabled": not model.get("deprecated", False),
            }


def _unconditional(prices: _Prices | list[_DatedPrices]) -> _Prices:
    """Return the prices without a condition (on a date or a time of day)."""
    if not isinstance(prices, list):
        return prices
    return next((entry["prices"] for entry in prices if "constraint" not in entry), {})


def _base_price(price: _Price | None) -> float | None:
    """Return a flat price, or the base price of tiers."""
    number = price if price is None or isinstance(price, (int, float)) else price.get("base")
    return None if number is None else float(number)
