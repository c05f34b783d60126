"""Small data for tests: only the columns that matter, sensible values for the others."""

from dataclasses import replace
from datetime import UTC, datetime

from duckdb import DuckDBPyConnection

from include.chimera.contracts import CONTRACTS
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.publish.bronze_publisher import Publication, Publisher
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch, attempt_folder, load_manifest
from include.chimera.lake.staged.stage_rows import refusals_of, rows_of
from include.chimera.profiles.chosen import intake_of
from include.chimera.window import Run, Window

HOUR = datetime(2026, 1, 1, 5, tzinfo=UTC)
LABEL = "20260101T05"
METRICS_INTAKE = intake_of("bronze.provider_metrics")


def run_of(hour: datetime = HOUR, run_id: str | None = None, **options: bool) -> Run:
    """Return a scheduled run of one hour."""
    return Run(run_id or f"scheduled__{hour.isoformat()}", Window.of_hour(hour), **options)


def generations(count: int, hour: datetime = HOUR, **columns: str) -> str:
    """Return a query of generations g0, g1, … of one hour; columns are SQL over `i`."""
    values = {
        "generation_id": "'g' || i",
        "created_at": f"timestamptz '{hour.isoformat()}' + interval (i % 3600) second",
        "updated_at": "created_at",
        "user_id": "'user'",
        "session_id": "'session'",
        "request_id": "'request' || i",
        "provider_id": "'acme'",
        "model_id": "'acme/m1'",
        "prompt_tokens": "i",
        "completion_tokens": "i",
        "latency_ms": "1.5 * i",
        "ttft_ms": "0.5 * i",
        "status": "'succeeded'",
        "error_code": "null",
        "techniques": "['roleplay']",
        "cost_usd": "0.5",
        "_row_hash": "md5(concat_ws('|', i, status, updated_at))",
        "_is_deleted": "false",
        "_window_hour": "strftime(updated_at, '%Y%m%dT%H')",
        **columns,
    }
    return typed_query("bronze.generations", values, count)


def api_logs(count: int, hour: datetime = HOUR, **columns: str) -> str:
    """Return a query of log lines of one hour; columns are SQL over `i`."""
    values = {
        "timestamp": f"timestamptz '{hour.isoformat()}' + interval (i % 3600) second",
        "level": "'info'",
        "request_id": "'request' || i",
        "method": "'GET'",
        "path": "'/v1/generate'",
        "status_code": "200",
        "duration_ms": "1.0 * i",
        "user_id": "'user'",
        "response_bytes": "i",
        "message": "'ok'",
        "_file": "'api.jsonl'",
        "_offset": "i",
        "_line_hash": "md5(cast(i as varchar))",
        "_window_hour": "strftime(timestamp, '%Y%m%dT%H')",
        **columns,
    }
    return typed_query("bronze.api_logs", values, count)


def typed_query(table: str, values: dict[str, str], count: int) -> str:
    """Return the query whose columns have the contract's names, order and types."""
    schema = CONTRACTS[table].schema
    kinds = {"string": "varchar", "double": "double", "int64": "bigint", "bool": "boolean"}
    columns = []
    for field in schema:
        kind = kinds.get(str(field.type))
        text = str(field.type)
        if kind is None and text.startswith("timestamp"):
            kind = "timestamptz"
        elif kind is None and text.startswith("decimal"):
            kind = "decimal(18, 9)"
        elif kind is None:
            kind = "varchar[]"
        columns.append(f'cast({values[field.name]} as {kind}) as "{field.name}"')
    return f"select {', '.join(columns)} from range({count}) as numbers (i)"


def stage(connection: DuckDBPyConnection, run: Run, table: str, query: str, **fields) -> Batch:
    """Write a query's rows as a staged attempt, without its manifest."""
    batch = Batch(table, draw_token(table, fields.get("hours", ())), **fields)
    folder = attempt_folder(run, batch)
    contract = CONTRACTS[table]
    files = write_files(connection, query, folder, contract.schema, contract.partition_by)
    return replace(batch, rows_read=sum(file.rows for file in files), files=files)


def staged_rows(run: Run, table: str) -> str:
    """Return a query of the rows that the run's newest attempt staged."""
    return rows_of(run, load_manifest(run, table))


def staged_refusals(run: Run, table: str) -> str:
    """Return a query of the records that the run's newest attempt could not parse."""
    return refusals_of(run, load_manifest(run, table))


def publish(
    connection: DuckDBPyConnection, run: Run, table: str, query: str, **fields
) -> Publication:
    """Stage and publish a query's rows as if all had passed their gate."""
    batch = stage(connection, run, table, query, **fields)
    return Publisher(connection, batch, rows_of(run, batch), run).publish(batch.rows_unparsed)
