"""The generated sample application: rows, log lines and samples for any hour.

It generates no text of prompts or responses.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.chimera.demo.feed import EVALUATIONS, GENERATIONS, HourData, row_ids
from include.chimera.demo.synthetic.api_log import hour_lines, request_ids
from include.chimera.demo.synthetic.draws import (
    CODES,
    STATUSES,
    TECHNIQUE_LISTS,
    USERS,
    Draw,
    draw_generations,
    draw_moments,
    profile_column,
    random_stream,
)
from include.chimera.demo.synthetic.model_profiles import PROFILES, priced_models
from include.chimera.demo.synthetic.telemetry import hour_families
from include.chimera.window import HOUR, Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from include.chimera.demo.synthetic.draws import Ints

EVALUATION_RATIO = 0.05
ATTACKS = {
    "PAIR": 0.55,
    "TAP": 0.5,
    "GCG": 0.35,
    "crescendo": 0.6,
    "many_shot": 0.45,
    "roleplay": 0.25,
    "base64": 0.15,
}
FRAMEWORKS = ("harmbench", "garak", "in_house")
JUDGES = ("llama-guard-3", "rule_based", "human")
_BEHAVIOURS = 100
_UNFINISHED_RATIO = 0.02
_NANO = Decimal("1e-9")
_COST_TYPE = GENERATIONS.field("cost_usd").type
_PRICE_COLUMNS = ("input_usd_per_mtok", "output_usd_per_mtok")
_USER_NAMES = [f"user-{number:04d}" for number in range(USERS)]


class GeneratedFeed:
    """Generates any hour from its label and the number of rows per hour alone."""

    def __init__(self, rows_per_hour: int) -> None:
        self._rows_per_hour = rows_per_hour
        self._draw = lru_cache(maxsize=3)(self._draw_hour)  # an hour needs the two before it

    @property
    def fingerprint(self) -> str:
        """The generator's name and the one number that its hours depend on."""
        return f"generator, {self._rows_per_hour} rows per hour"

    def models(self) -> pa.Table:
        """Return all rows of app.models."""
        return priced_models()

    def hour(self, window: Window) -> HourData:
        """Make the one hour that `window` spans."""
        draw, previous = self._draw(window.start), self._draw(window.start - HOUR)
        return HourData(
            tables={
                "generations": _hour_generations(draw),
                "evaluations": _hour_evaluations(
                    window.start, round(len(draw.created) * EVALUATION_RATIO)
                ),
            },
            log_lines=hour_lines(draw, previous),
            families=hour_families(window.start, self._rows_per_hour),
        )

    def settlements(self, window: Window) -> pa.Table:
        """Return newer versions, updated after the hour's end, of generations created in it."""
        draw = self._draw(window.start)
        return _generation_rows(draw, np.flatnonzero(draw.changes_after_hour), is_settled=True)

    def _draw_hour(self, start: datetime) -> Draw:
        return draw_generations(start, self._rows_per_hour)


def _hour_generations(draw: Draw) -> pa.Table:
    """Return the hour's rows as they are at its end."""
    is_open = draw.changes_after_hour
    rows = pa.concat_tables(
        [
            _generation_rows(draw, np.flatnonzero(~is_open), is_settled=True),
            _generation_rows(draw, np.flatnonzero(is_open), is_settled=False),
        ]
    )
    return rows.sort_by("created_at")


def _generation_rows(draw: Draw, rows: Ints, *, is_settled: bool) -> pa.Table:
    """Turn drawn rows into rows of app.generations.

    Args:
        draw: The hour's draw.
        rows: Numbers of the rows within the hour.
        is_settled: True for the rows' last version; False for their first, whose cost is not known
            yet.
    """
    label, created = hour_label(draw.start), draw.created[rows]
    model, users = draw.model[rows], _take(_USER_NAMES, draw.user[rows])
    code, status = (draw.final_code, draw.final_status) if is_settled else (draw.code, draw.status)
    sessions = pa.array(draw.session[rows]).cast(pa.string())
    columns = {
        "generation_id": pa.array(row_ids(f"generation/{label}", rows.tolist()), pa.string()),
        "created_at": _times(created),
        "updated_at": _times(draw.settled[rows] if is_settled else created),
        "user_id": users,
        "session_id": pc.binary_join_element_wise(users, label, sessions, "-"),
        "request_id": pa.array(request_ids(draw.start, rows), pa.string()),
        "provider_id": _take([profile.provider_id for profile in PROFILES], model),
        "model_id": _take([profile.model_id for profile in PROFILES], model),
        "prompt_tokens": pa.array(draw.prompt_tokens[rows]),
        "completion_tokens": pa.array(draw.completion_tokens[rows]),
        "latency_ms": pa.array(draw.latency_ms[rows]),
        "ttft_ms": pa.array(draw.ttft_ms[rows], from_pandas=True),
        "status": _take(STATUSES, status[rows]),
        "error_code": _take(CODES, code[rows]),
        "techniques": pa.array(TECHNIQUE_LISTS, pa.list_(pa.string())).take(draw.technique[rows]),
        "cost_usd": _costs(draw, rows) if is_settled else pa.nulls(len(rows), _COST_TYPE),
    }
    return pa.table(columns, schema=GENERATIONS)


def _costs(draw: Draw, rows: Ints) -> pa.Array:
    """Return exact costs in USD, null for models without a list price."""
    prices = [profile_column(name)[draw.model[rows]] for name in _PRICE_COLUMNS]
    tokens = (draw.prompt_tokens[rows], draw.completion_tokens[rows])
    micro_usd = sum(price * count for price, count in zip(prices, tokens, strict=True))
    nano_usd = pa.array(np.round(micro_usd * 1000), from_pandas=True).cast(pa.int64())
    exact = pc.multiply(nano_usd.cast(pa.decimal128(19, 0)), pa.scalar(_NANO))
    return exact.cast(_COST_TYPE)


def _hour_evaluations(start: datetime, count: int) -> pa.Table:
    rng = random_stream(start, purpose=2)
    attack = rng.integers(0, len(ATTACKS), count)
    model = rng.integers(0, len(PROFILES), count)
    iterations = rng.integers(1, 21, count)
    strength = np.array(list(ATTACKS.values()))[attack]
    successes = rng.binomial(iterations, strength * profile_column("weakness")[model] / 2)
    is_unfinished = rng.random(count) < _UNFINISHED_RATIO
    created = _times(draw_moments(rng, start, count))
    behaviours = [f"behaviour-{number:03d}" for number in range(_BEHAVIOURS)]
    columns = {
        "evaluation_id": pa.array(
            row_ids(f"evaluation/{hour_label(start)}", range(count)), pa.string()
        ),
        "created_at": created,
        "updated_at": created,
        "provider_id": _take([profile.provider_id for profile in PROFILES], model),
        "model_id": _take([profile.model_id for profile in PROFILES], model),
        "framework": _take(FRAMEWORKS, rng.integers(0, len(FRAMEWORKS), count)),
        "technique": _take(list(ATTACKS), attack),
        "behaviour_id": _take(behaviours, rng.integers(0, _BEHAVIOURS, count)),
        "iterations": pa.array(iterations),
        "successes": pa.array(successes, mask=is_unfinished),
        "judge": _take(JUDGES, rng.integers(0, len(JUDGES), count)),
        "status": _take(("completed", "failed"), is_unfinished.astype(np.int64)),
    }
    return pa.table(columns, schema=EVALUATIONS)


def _take(names: Sequence[str | None], indices: Ints) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(indices))


def _times(moments: Ints) -> pa.Array:
    return pa.array(moments).cast(GENERATIONS.field("created_at").type)
