"""Planted faults: how each breaks clean rows, and the one rule that must notice it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from tests.integration.quality.gating import START

Plant = Callable[[pa.Table, np.ndarray], pa.Table]
SHARES = (0.005, 0.05)
SECOND = timedelta(seconds=1)
NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Args:
        table: The table whose clean rows it breaks.
        rule: Id of the rule that has to notice, and no other.
        plant: Takes the clean rows and the numbers of the rows to break; returns the broken rows.
        share: Share of the rows to break.
        also: Rules that necessarily notice with it, e.g. on a column that is gone.
        raises: Whether rules about the fault's column can't be judged, and say so.
    """

    table: str
    rule: str
    plant: Plant
    share: float = 0.05
    also: frozenset[str] = frozenset()
    raises: str | None = None

    @property
    def name(self) -> str:
        """Name it for the test's id."""
        return f"{self.table}-{self.rule}-{self.share:g}"


def chosen_rows(rows: pa.Table, share: float, seed: int) -> np.ndarray:
    """Draw the numbers of the rows to break: at least one, the same in each test run."""
    count = max(1, round(share * rows.num_rows))
    return np.random.default_rng(seed).choice(rows.num_rows, count, replace=False)


def put(column: str, value: Any) -> Plant:
    """Set one column to a value, or to a function of the row."""

    def plant(rows: pa.Table, chosen: np.ndarray) -> pa.Table:
        values, marked = rows[column].to_pylist(), set(chosen.tolist())
        records = rows.to_pylist() if callable(value) else [{}] * rows.num_rows
        changed = [
            (value(records[number]) if callable(value) else value) if number in marked else old
            for number, old in enumerate(values)
        ]
        return replaced(rows, column, pa.array(changed, rows.schema.field(column).type))

    return plant


def together(*plants: Plant) -> Plant:
    """Plant several faults in the same rows."""

    def plant(rows: pa.Table, chosen: np.ndarray) -> pa.Table:
        return reduce(lambda broken, one: one(broken, chosen), plants, rows)

    return plant


def replaced(rows: pa.Table, column: str, values: pa.Array) -> pa.Table:
    """Return the rows with another column of this name."""
    return rows.set_column(rows.schema.get_field_index(column), column, values)


def scaled(column: str, factor: float) -> Plant:
    """Multiply a whole column, like a distribution that drifted."""

    def plant(rows: pa.Table, _: np.ndarray) -> pa.Table:
        kind = rows.schema.field(column).type
        values = [None if v is None else type(v)(v * factor) for v in rows[column].to_pylist()]
        return replaced(rows, column, pa.array(values, kind))

    return plant


def same(column: str, value: object) -> Plant:
    """Give every row one value, like a distribution that froze."""

    def plant(rows: pa.Table, _: np.ndarray) -> pa.Table:
        kind = rows.schema.field(column).type
        return replaced(rows, column, pa.array([value] * rows.num_rows, kind))

    return plant


def repeated(rows: pa.Table, chosen: np.ndarray) -> pa.Table:
    """Append rows once more."""
    return pa.concat_tables([rows, rows.take(pa.array(chosen))])


def emptied(rows: pa.Table, _: np.ndarray) -> pa.Table:
    """Lose every row."""
    return rows.slice(0, 0)


def dropped(column: str) -> Plant:
    """Lose a column."""
    return lambda rows, _: rows.drop_columns([column])


def retyped(column: str, kind: pa.DataType) -> Plant:
    """Change a column's type."""
    return lambda rows, _: replaced(rows, column, rows[column].cast(kind))


def early(column: str) -> Plant:
    """Keep only the first four minutes of the hour."""

    def plant(rows: pa.Table, _: np.ndarray) -> pa.Table:
        limit = START + timedelta(minutes=4)
        kept = [number for number, moment in enumerate(rows[column].to_pylist()) if moment < limit]
        return rows.take(pa.array(kept))

    return plant


def at_both(table: str, rule: str, plant: Any, **more: Any) -> list[Fault]:
    """Return the fault at 0.5 % and at 5 % of the rows."""
    return [Fault(table, rule, plant, share, **more) for share in SHARES]


GENERATIONS, EVALUATIONS, MODELS = "bronze.generations", "bronze.evaluations", "bronze.models"
LOGS, METRICS = "bronze.api_logs", "bronze.provider_metrics"

BRONZE_FAULTS = [
    *at_both(GENERATIONS, "not_null_generation_id", put("generation_id", None)),
    *at_both(GENERATIONS, "length_generation_id", put("generation_id", "g" * 65)),
    *at_both(GENERATIONS, "in_set_status", put("status", "refunded")),
    *at_both(GENERATIONS, "not_null_status", put("status", None)),
    *at_both(GENERATIONS, "between_latency_ms", put("latency_ms", -0.5)),
    *at_both(GENERATIONS, "between_prompt_tokens", put("prompt_tokens", -1)),
    *at_both(
        GENERATIONS,
        "at_least_updated_at_created_at",
        put("updated_at", lambda row: row["created_at"] - SECOND),
    ),
    *at_both(
        GENERATIONS,
        "in_window_updated_at",
        put("updated_at", START + timedelta(hours=1, seconds=5)),
    ),
    *at_both(GENERATIONS, "no_error_on_success", put("error_code", "oops"), also=frozenset()),
    *at_both(GENERATIONS, "refers_to_model_id", put("model_id", "nobody/never")),
    *at_both(GENERATIONS, "matches__window_hour", put("_window_hour", "2026-01-05 10")),
    Fault(GENERATIONS, "since_beginning", put("created_at", START.replace(year=1970)), 0.005),
    Fault(GENERATIONS, "between_ttft_ms", put("ttft_ms", NAN)),
    Fault(GENERATIONS, "between_cost_usd", put("cost_usd", 10001), 0.005),
    Fault(GENERATIONS, "between_completion_tokens", put("completion_tokens", 10**8), 0.005),
    Fault(GENERATIONS, "row_count", emptied),
    Fault(GENERATIONS, "fresh_created_at", early("created_at")),
    Fault(GENERATIONS, "mean_latency_ms", scaled("latency_ms", 0.005), 1.0),
    Fault(GENERATIONS, "stdev_latency_ms", same("latency_ms", 800.0), 1.0),
    Fault(GENERATIONS, "stdev_prompt_tokens", same("prompt_tokens", 700), 1.0),
    Fault(GENERATIONS, "mean_prompt_tokens", scaled("prompt_tokens", 0.005), 1.0),
    Fault(GENERATIONS, "columns", dropped("session_id"), 1.0),
    Fault(GENERATIONS, "columns", dropped("ttft_ms"), 1.0, raises="ttft_ms"),
    Fault(GENERATIONS, "types", retyped("completion_tokens", pa.float64()), 1.0),
    Fault(GENERATIONS, "types", retyped("latency_ms", pa.string()), 1.0, raises="latency_ms"),
    *at_both(EVALUATIONS, "between_successes", put("successes", -1)),
    *at_both(EVALUATIONS, "not_null_technique", put("technique", None)),
    *at_both(
        EVALUATIONS,
        "at_least_iterations_successes",
        put("successes", lambda row: row["iterations"] + 1),
    ),
    Fault(EVALUATIONS, "not_null_evaluation_id", put("evaluation_id", None)),
    Fault(EVALUATIONS, "length_status", put("status", "")),
    Fault(
        EVALUATIONS,
        "mean_successes",
        same("successes", 1000),
        1.0,
        also=frozenset({"at_least_iterations_successes"}),
    ),
    Fault(MODELS, "unique_model_id", repeated),
    Fault(MODELS, "row_count", emptied, also=frozenset({"distinct_count_provider_id"})),
    Fault(MODELS, "not_null_model_id", put("model_id", None)),
    Fault(MODELS, "between_output_usd_per_mtok", put("output_usd_per_mtok", -3.0)),
    Fault(MODELS, "between_context_tokens", put("context_tokens", 0)),
    Fault(MODELS, "distinct_count_provider_id", same("provider_id", "acme"), 1.0),
    *at_both(LOGS, "between_status_code", put("status_code", 99)),
    *at_both(LOGS, "in_set_level", put("level", "trace")),
    *at_both(LOGS, "unique__file__offset", repeated),
    *at_both(LOGS, "in_window_timestamp", put("timestamp", START - timedelta(hours=30))),
    *at_both(LOGS, "between_duration_ms", put("duration_ms", -1.0)),
    Fault(LOGS, "in_set_method", put("method", "BREW")),
    Fault(LOGS, "length_request_id", put("request_id", "")),
    Fault(LOGS, "row_count", emptied),
    Fault(LOGS, "fresh_timestamp", early("timestamp")),
    Fault(LOGS, "mean_status_code", same("status_code", 503), 1.0),
    Fault(LOGS, "mean_duration_ms", scaled("duration_ms", 0.005), 1.0),
    Fault(LOGS, "columns", dropped("path"), 1.0),
    *at_both(METRICS, "not_null_series_id", put("series_id", None)),
    *at_both(METRICS, "unique_series_id_sampled_at", repeated),
    Fault(METRICS, "finite_value", put("value", NAN), 0.005, also=frozenset({"up_is_zero_or_one"})),
    Fault(METRICS, "matches_metric", put("metric", "llm-requests")),
    Fault(
        METRICS,
        "counters_do_not_fall_below_zero",
        put("value", lambda row: row["value"] if row["metric"] == "llm_provider_up" else -1.0),
    ),
    Fault(
        METRICS,
        "up_is_zero_or_one",
        put("value", lambda row: 0.5 if row["metric"] == "llm_provider_up" else row["value"]),
        0.5,
    ),
    Fault(
        METRICS,
        "in_window_sampled_at",
        put("sampled_at", lambda row: row["sampled_at"] + timedelta(hours=3)),
        0.005,
    ),
    Fault(METRICS, "row_count", emptied),
    Fault(METRICS, "fresh_sampled_at", early("sampled_at")),
]

SILVER_AND_GOLD_FAULTS = [
    *at_both("silver.stg_app__generations", "not_null_model_id", put("model_id", None)),
    *at_both("silver.stg_app__generations", "unique_generation_id", repeated),
    Fault(
        "silver.stg_app__generations", "hour_is_created_hour", put("_window_hour", "20260105T09")
    ),
    Fault(
        "silver.stg_app__generations",
        "success_is_status",
        put("is_succeeded", lambda row: not row["is_succeeded"]),
        0.005,
    ),
    Fault("silver.stg_app__generations", "columns", dropped("session_id"), 1.0),
    Fault("silver.stg_app__generations", "types", retyped("prompt_tokens", pa.float64()), 1.0),
    Fault("silver.stg_app__evaluations", "not_null_technique", put("technique", None), 0.005),
    Fault("silver.stg_app__models", "row_count", emptied),
    Fault("silver.stg_logs__api_requests", "between_status_code", put("status_code", 600), 0.005),
    Fault(
        "silver.stg_prometheus__provider_samples",
        "not_null_metric_name",
        put("metric_name", None),
        0.005,
    ),
    *at_both("gold.fct_generations", "tokens_add_up", put("total_tokens", -7)),
    *at_both("gold.fct_generations", "refers_to_model_id", put("model_id", "nobody/never")),
    Fault("gold.fct_generations", "between_cost_usd", put("cost_usd", -1), 0.005),
    Fault("gold.fct_generations", "mean_latency_ms", scaled("latency_ms", 0.005), 1.0),
    Fault("gold.fct_evaluations", "between_success_count", put("success_count", -1), 0.005),
    Fault("gold.fct_api_requests", "not_null_http_method", put("http_method", None), 0.005),
    Fault("gold.agg_provider_hourly", "between_success_ratio", put("success_ratio", 1.01)),
    Fault("gold.agg_provider_hourly", "statuses_add_up", put("failed_count", 10_000)),
    Fault(
        "gold.agg_provider_hourly",
        "at_least_p95_latency_ms_p50_latency_ms",
        put("p50_latency_ms", lambda row: row["p95_latency_ms"] + 1),
    ),
    Fault(
        "gold.agg_technique_daily",
        "at_least_judged_count_successful_count",
        put("successful_count", lambda row: row["judged_count"] + 1),
    ),
    Fault(
        "gold.agg_technique_effectiveness",
        "at_least_attack_success_upper_ratio_attack_success_ratio",
        # All three: a row without judged evaluations has no ratio to go below.
        together(
            put("attack_success_ratio", 0.5),
            put("attack_success_lower_ratio", 0.3),
            put("attack_success_upper_ratio", 0.4),
        ),
    ),
    Fault("gold.agg_usage_daily", "unique_usage_date_provider_id_model_id", repeated),
    Fault("gold.dim_models", "unique_model_id", repeated),
    Fault(
        "gold.dim_providers",
        "at_least_listed_model_count_enabled_model_count",
        put("enabled_model_count", lambda row: row["listed_model_count"] + 1),
    ),
]
