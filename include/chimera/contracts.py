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

from include.chimera.relation import Relation

Kind = Literal["versions", "events", "reference", "log"]

_TIME = pa.timestamp("us", tz="UTC")
PARTITION, ROW_HASH, IS_DELETED = "_window_hour", "_row_hash", "_is_deleted"

# What a column means, wherever its name stands; `<layer>.<table>.<column>` where one table differs.
_COMMENTS = {
    "_file": "The log file that holds the line.",
    "_is_deleted": "Whether this version says that the source no longer has the row.",
    "_line_hash": "Hash of the line.",
    "_offset": "Where the line begins in its file, in bytes after decompression.",
    "_row_hash": "Hash of the row's content: tells versions of a row apart.",
    "_window_hour": "Partition: a UTC hour, YYYYMMDDTHH.",
    "accepted_by": "Who let a failed gate through; null where nobody did.",
    "accepted_reason": "Why, in that person's words; null where nobody did.",
    "attempt": "How often the record had been replayed then; 0 when it was refused.",
    "attempt_token": "Fencing token of the attempt: a later one is higher.",
    "behaviour_id": "The harmful behaviour that the attack tried to elicit; null where not said.",
    "cached_tokens": "Prompt tokens that came from a cache; null where not reported.",
    "checked_count": "Rows that the rule looked at; null where it counts none.",
    "completion_tokens": "Tokens of the completion; null where not reported.",
    "context_tokens": "The model's context window, in tokens; null where not known.",
    "coordinates": "Where the record stands in its source, as JSON; null where it has no place.",
    "correlation_id": "Twelve hex digits of the run id's hash, as in logs and messages.",
    "cost_usd": "What the provider charges, in US dollars; null where not reported.",
    "created_at": "When the source made the row, UTC. Never changes.",
    "duration_ms": "Time to answer, in milliseconds; null where not logged.",
    "error": "The class of the error that kept the rule from a result; null without one.",
    "error_code": "The provider's or platform's error code; null without an error.",
    "errors": "Attempts that ended with the provider's error; null where not said, which is not 0.",
    "evaluation_id": "The evaluation's id. It never changes.",
    "evaluation_kind": "attack or benchmark; null where the source does not say.",
    "event": "What happened to the record: refused, replayed, published or parked.",
    "framework": "The tool that ran the evaluation; null where not said.",
    "framework_version": "The tool's version; null where not said.",
    "gate_seconds": "How long the gate took, in seconds.",
    "generation_id": "The generation's id in its source. It never changes.",
    "input_usd_per_mtok": "List price of a million prompt tokens, in US dollars.",
    "is_enabled": "Whether the platform offers the model now; null where not said.",
    "is_passed": "Whether the rule holds; false where it could not be asked.",
    "iterations": "Attempts that were made; null where not said.",
    "judge": "Who decided whether an attempt succeeded: a model, a rule or a person.",
    "latency_ms": "Time from request to last token, in milliseconds; null where not reported.",
    "le": "A histogram bucket's upper bound, in the metric's unit; null outside histograms.",
    "letter_id": "Hash of the record, its place and the reason: the same record has the same id.",
    "level": "The line's severity, as logged.",
    "message": "What the line says.",
    "method": "HTTP method; null on a line that is not about a request.",
    "metric": "The metric's name in Prometheus.",
    "model_id": "The model; null where the source does not say.",
    "name": "The model's display name.",
    "observed_value": "The number that the rule compares; null where it counts rows.",
    "output_usd_per_mtok": "List price of a million completion tokens, in US dollars.",
    "pass_ratio": "Share of the checked rows that keep the rule, 0 to 1; null without rows.",
    "passes": "Attempts that the model withstood, or samples it solved; null where not said.",
    "path": "Path of the request, as logged.",
    "payload": "The record as it came, cut to 64 KiB; null once erased or where none is kept.",
    "payload_bytes": "Length of the whole record, in bytes.",
    "prompt_tokens": "Tokens of the prompt; null where not reported.",
    "provider_id": "The company or service that runs the model; null where not said.",
    "reason": "Why the record was refused: a rule's id or a parser's word.",
    "recorded_at": "When the row was written, UTC.",
    "replaced_version": "The version that a person's restore replaced; null without one.",
    "report_file": "The report's path below the root; null where rows come from no report.",
    "report_hash": "SHA-256 of the report's content; null where rows come from no report.",
    "request_id": "The API request that this belongs to; null where not said.",
    "response_bytes": "Size of the answer's body, in bytes; null where not logged.",
    "restored_by": "Who put the run's rows back; null where the run committed them.",
    "restored_reason": "Why, in that person's words; null where the run committed them.",
    "rows_duplicate": "Rows that the table already held, or whose hour a newer attempt published.",
    "rows_published": "Rows that became part of the table.",
    "rows_read": "Rows read from the source: published, refused and duplicate ones.",
    "rows_refused": "Rows that became dead letters.",
    "rule_id": "The rule's id within its table.",
    "run_id": "The DAG run's id in Airflow.",
    "sampled_at": "Time of the sample, UTC.",
    "score": "The tool's own number; null where there is none.",
    "score_stderr": "The score's standard error; null where not said.",
    "series_id": "Hash of the series' name and labels.",
    "session_id": "The user's session; null where not said.",
    "severity": "critical or warning.",
    "source": "The bronze table that the record was meant for.",
    "stage": "Where it was refused: extract or gate.",
    "status": "succeeded, failed (the provider or platform broke) or filtered (a safety filter).",
    "status_code": "HTTP status of the answer; null where none was sent.",
    "successes": "Attempts of the attack that succeeded; null before a judgement, which is not 0.",
    "table_name": "The table, <layer>.<table>.",
    "table_version": "The version of the Delta table that this is about.",
    "techniques": "The attack techniques applied to the prompt; null or empty without one.",
    "technique": "The attack technique or the benchmark; null where not said.",
    "timestamp": "When the API wrote the line, UTC.",
    "ttft_ms": "Time to first token, in milliseconds; null where not reported.",
    "undetermined": "Attempts that no judge decided; null where not said, which is not 0.",
    "unexpected_count": "Rows that break the rule; null where it counts none.",
    "updated_at": "When the source last changed the row, UTC.",
    "user_id": "The user who sent the request; null where not said.",
    "value": "The value, in the unit that the metric's name says; NaN where Prometheus says so.",
    "verdict": "The gate's outcome: passed, warned, accepted or failed.",
    "window_end": "End of the run's hours, UTC, exclusive.",
    "window_start": "Start of the run's hours, UTC, inclusive.",
    "bronze.evaluations.cost_usd": "What the evaluation cost, in US dollars; null where not said.",
    "bronze.evaluations.latency_ms": "How long it took, in milliseconds; null where not said.",
    "bronze.evaluations.status": "The evaluation's state as its source reports it.",
}


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
        names = self.schema.names
        return {name: _COMMENTS.get(f"{self.name}.{name}", _COMMENTS[name]) for name in names}

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
    "that the run committed. The newest versions of one run are one consistent snapshot. A restore "
    "of a run adds the versions that have its rows again, with who did it and why.",
    schema=pa.schema(
        [
            _required("run_id", pa.string()),
            _required("correlation_id", pa.string()),
            _required("table_name", pa.string()),
            _required("table_version", pa.int64()),
            pa.field("replaced_version", pa.int64()),
            pa.field("restored_by", pa.string()),
            pa.field("restored_reason", pa.string()),
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
