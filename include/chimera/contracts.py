"""The catalogue: each bronze and ops table's name, schema, key, partition, retention and owner.

Columns that start with `_` are lineage, which the source lacks. `_is_deleted` marks a tombstone: a
version that says that the source no longer has the row (docs/adr/0006). `_window_hour`
(`YYYYMMDDTHH`, UTC) is the partition: the hour of `updated_at` for mutable sources, of the event
for immutable ones. A field that is not nullable is required; a gate enforces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from include.chimera.column_comments import COMMENTS
from include.chimera.relation import Relation

Kind = Literal["versions", "events", "reference", "log"]

_TIME = pa.timestamp("us", tz="UTC")
PARTITION, ROW_HASH, IS_DELETED = "_window_hour", "_row_hash", "_is_deleted"


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


@dataclass(frozen=True)
class Contract:
    """One table of the lake that the pipeline itself writes.

    Args:
        name: `<layer>.<table>`.
        kind: `versions` keeps each version of a mutable row once; `events` replaces whole event
            hours; `reference` is replaced whole; `log` only grows.
        schema: Arrow schema, with the lineage columns.
        key: The columns that identify a row (in `versions`: together with `_row_hash`).
        event_time: The column that decides a row's event hour downstream.
        on_change: What to do about a tolerable change of a source column: `freeze` stops the table,
            `evolve` continues with a warning.
        retention_days: How long rows are kept; None: for ever.
        owner: Who is responsible for the table.
        description: One sentence that starts "One row per".
        extras: Columns that only some platforms have; the lack of one is not told. They came after
            the table's first lakes, so a row without them has the hash that it had.
    """

    name: str
    kind: Kind
    schema: pa.Schema
    key: tuple[str, ...]
    event_time: str | None
    description: str
    on_change: Literal["freeze", "evolve"] = "evolve"
    retention_days: int | None = None
    extras: tuple[str, ...] = ()
    owner: str = "data-platform"

    @property
    def relation(self) -> Relation:
        """The table's identity."""
        return Relation.parse(self.name)

    @property
    def layer(self) -> str:
        """`bronze` or `ops`."""
        return self.relation.schema

    @property
    def table(self) -> str:
        """The name without its layer."""
        return self.relation.identifier

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The partition columns; a reference table has none."""
        return (PARTITION,) if PARTITION in self.schema.names else ()

    @property
    def comments(self) -> dict[str, str]:
        """What each column means."""
        return {
            name: COMMENTS.get(f"{self.name}.{name}", COMMENTS[name]) for name in self.schema.names
        }

    @property
    def source_columns(self) -> list[str]:
        """The columns that come from the source itself."""
        return [name for name in self.schema.names if not name.startswith("_")]

    @property
    def common_columns(self) -> list[str]:
        """Those of them that every platform has, the sample application among them."""
        return [name for name in self.source_columns if name not in self.extras]


GENERATIONS = Contract(
    name="bronze.generations",
    kind="versions",
    key=("generation_id",),
    event_time="created_at",
    description="One row per version of a generation: a prompt sent to a model, without its text.",
    schema=pa.schema(
        [
            _required("generation_id", pa.string()),
            _required("created_at", _TIME),
            _required("updated_at", _TIME),
            pa.field("user_id", pa.string()),
            pa.field("session_id", pa.string()),
            pa.field("request_id", pa.string()),
            pa.field("provider_id", pa.string()),
            pa.field("model_id", pa.string()),
            pa.field("prompt_tokens", pa.int64()),
            pa.field("completion_tokens", pa.int64()),
            pa.field("latency_ms", pa.float64()),
            pa.field("ttft_ms", pa.float64()),
            _required("status", pa.string()),
            pa.field("error_code", pa.string()),
            pa.field("techniques", pa.list_(pa.string())),
            pa.field("cost_usd", pa.decimal128(18, 9)),
            _required(ROW_HASH, pa.string()),
            _required(IS_DELETED, pa.bool_()),
            _required(PARTITION, pa.string()),
        ]
    ),
)

EVALUATIONS = Contract(
    name="bronze.evaluations",
    kind="versions",
    key=("evaluation_id",),
    event_time="created_at",
    description="One row per version of an evaluation of a model: its safety by one technique, or "
    "its answers by a benchmark.",
    extras=(
        *("passes", "errors", "undetermined", "score", "score_stderr"),
        *("evaluation_kind", "framework_version", "report_file", "report_hash"),
        *("prompt_tokens", "completion_tokens", "cached_tokens", "latency_ms", "cost_usd"),
    ),
    schema=pa.schema(
        [
            _required("evaluation_id", pa.string()),
            _required("created_at", _TIME),
            _required("updated_at", _TIME),
            pa.field("provider_id", pa.string()),
            pa.field("model_id", pa.string()),
            pa.field("framework", pa.string()),
            pa.field("technique", pa.string()),
            pa.field("behaviour_id", pa.string()),
            pa.field("iterations", pa.int64()),
            pa.field("successes", pa.int64()),
            pa.field("judge", pa.string()),
            _required("status", pa.string()),
            pa.field("passes", pa.int64()),
            pa.field("errors", pa.int64()),
            pa.field("undetermined", pa.int64()),
            pa.field("score", pa.float64()),
            pa.field("score_stderr", pa.float64()),
            pa.field("evaluation_kind", pa.string()),
            pa.field("framework_version", pa.string()),
            pa.field("prompt_tokens", pa.int64()),
            pa.field("completion_tokens", pa.int64()),
            pa.field("cached_tokens", pa.int64()),
            pa.field("latency_ms", pa.float64()),
            pa.field("cost_usd", pa.decimal128(18, 9)),
            pa.field("report_file", pa.string()),
            pa.field("report_hash", pa.string()),
            _required(ROW_HASH, pa.string()),
            _required(IS_DELETED, pa.bool_()),
            _required(PARTITION, pa.string()),
        ]
    ),
)

MODELS = Contract(
    name="bronze.models",
    kind="reference",
    on_change="freeze",
    key=("model_id",),
    event_time=None,
    description="One row per model that the platform knows, with its list prices.",
    schema=pa.schema(
        [
            _required("model_id", pa.string()),
            pa.field("provider_id", pa.string()),
            pa.field("name", pa.string()),
            pa.field("input_usd_per_mtok", pa.float64()),
            pa.field("output_usd_per_mtok", pa.float64()),
            pa.field("context_tokens", pa.int64()),
            pa.field("is_enabled", pa.bool_()),
            _required("updated_at", _TIME),
            _required(ROW_HASH, pa.string()),
        ]
    ),
)

API_LOGS = Contract(
    name="bronze.api_logs",
    kind="events",
    key=("_file", "_offset", "_line_hash"),
    event_time="timestamp",
    description="One row per line that the API logged.",
    schema=pa.schema(
        [
            _required("timestamp", _TIME),
            pa.field("level", pa.string()),
            pa.field("request_id", pa.string()),
            pa.field("method", pa.string()),
            pa.field("path", pa.string()),
            pa.field("status_code", pa.int64()),
            pa.field("duration_ms", pa.float64()),
            pa.field("user_id", pa.string()),
            pa.field("response_bytes", pa.int64()),
            pa.field("message", pa.string()),
            _required("_file", pa.string()),
            _required("_offset", pa.int64()),
            _required("_line_hash", pa.string()),
            _required(PARTITION, pa.string()),
        ]
    ),
)

PROVIDER_METRICS = Contract(
    name="bronze.provider_metrics",
    kind="events",
    key=("series_id", "sampled_at"),
    event_time="sampled_at",
    description="One row per sample of a provider's metric; `le` is a histogram bucket's bound.",
    schema=pa.schema(
        [
            _required("series_id", pa.string()),
            _required("sampled_at", _TIME),
            _required("metric", pa.string()),
            pa.field("provider_id", pa.string()),
            pa.field("model_id", pa.string()),
            pa.field("le", pa.float64()),
            pa.field("value", pa.float64()),
            _required(PARTITION, pa.string()),
        ]
    ),
)

DEAD_LETTERS = Contract(
    name="ops.dead_letters",
    kind="log",
    key=("letter_id", "event", "attempt"),
    event_time="recorded_at",
    retention_days=30,
    description="One row per event (refused, replayed, published, parked) of a refused record.",
    schema=pa.schema(
        [
            _required("letter_id", pa.string()),
            _required("event", pa.string()),
            _required("attempt", pa.int64()),
            _required("recorded_at", _TIME),
            _required("source", pa.string()),
            _required("stage", pa.string()),
            _required("reason", pa.string()),
            pa.field("coordinates", pa.string()),
            pa.field("payload", pa.binary()),
            _required("payload_bytes", pa.int64()),
            _required("run_id", pa.string()),
            _required("correlation_id", pa.string()),
            _required(PARTITION, pa.string()),
        ]
    ),
)

WINDOW_LEDGER = Contract(
    name="ops.window_ledger",
    kind="log",
    key=("run_id", "table_name", "attempt_token"),
    event_time="recorded_at",
    description="One row per bronze table and run: what was read and what became of it.",
    schema=pa.schema(
        [
            _required("run_id", pa.string()),
            _required("correlation_id", pa.string()),
            _required("table_name", pa.string()),
            _required("window_start", _TIME),
            _required("window_end", _TIME),
            _required("rows_read", pa.int64()),
            _required("rows_published", pa.int64()),
            _required("rows_refused", pa.int64()),
            _required("rows_duplicate", pa.int64()),
            _required("table_version", pa.int64()),
            _required("attempt_token", pa.int64()),
            _required("recorded_at", _TIME),
        ]
    ),
)

QUALITY_RESULTS = Contract(
    name="ops.quality_results",
    kind="log",
    key=("run_id", "table_name", "rule_id", "recorded_at"),
    event_time="recorded_at",
    description="One row per rule that a gate applied to a table in a run; never a row's value. "
    "`min_pass_ratio` is the gate as a whole; `anomaly_…` compares with the same hour of former "
    "days.",
    schema=pa.schema(
        [
            _required("run_id", pa.string()),
            _required("correlation_id", pa.string()),
            _required("table_name", pa.string()),
            _required("rule_id", pa.string()),
            _required("severity", pa.string()),
            _required("is_passed", pa.bool_()),
            _required("verdict", pa.string()),
            pa.field("checked_count", pa.int64()),
            pa.field("unexpected_count", pa.int64()),
            pa.field("pass_ratio", pa.float64()),
            pa.field("observed_value", pa.float64()),
            pa.field("error", pa.string()),
            _required("gate_seconds", pa.float64()),
            pa.field("accepted_by", pa.string()),
            pa.field("accepted_reason", pa.string()),
            _required("window_start", _TIME),
            _required("window_end", _TIME),
            _required("recorded_at", _TIME),
            _required(PARTITION, pa.string()),
        ]
    ),
)

PUBLISHED_VERSIONS = Contract(
    name="ops.published_versions",
    kind="log",
    key=("run_id", "table_name", "table_version"),
    event_time="recorded_at",
    description="One row per silver or gold table and run whose branches all passed: the version "
    "that the run committed. The rows of one run are one consistent snapshot.",
    schema=pa.schema(
        [
            _required("run_id", pa.string()),
            _required("correlation_id", pa.string()),
            _required("table_name", pa.string()),
            _required("table_version", pa.int64()),
            _required("window_start", _TIME),
            _required("window_end", _TIME),
            _required("recorded_at", _TIME),
            _required(PARTITION, pa.string()),
        ]
    ),
)

# What the sources fill, each table from the reader that a profile names (include/profiles).
BRONZE = (GENERATIONS, EVALUATIONS, MODELS, API_LOGS, PROVIDER_METRICS)
OPS = (DEAD_LETTERS, WINDOW_LEDGER, QUALITY_RESULTS, PUBLISHED_VERSIONS)
# Tables whose dead letters are replayed; each run reads a reference table whole anyway.
REPLAYED = [contract.name for contract in BRONZE if contract.kind != "reference"]
CONTRACTS = {contract.name: contract for contract in (*BRONZE, *OPS)}
