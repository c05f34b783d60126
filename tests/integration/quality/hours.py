"""Hours of the sample application as bronze rows, as the extract tasks would stage them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from include.chimera.contracts import (
    API_LOGS,
    CONTRACTS,
    PARTITION,
    PROVIDER_METRICS,
)
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.profiles.metric_maps import METRICS
from include.chimera.sources.api_logs.extract import LogLine
from include.chimera.window import hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.demo.feed import Feed, HourData
    from include.chimera.window import Run, Window

EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def bronze_tables(feed: Feed, window: Window) -> dict[str, pa.Table]:
    """Return each bronze table's rows of one hour, by table."""
    data = feed.hour(window)
    return {
        **{
            f"bronze.{table}": _rows(f"bronze.{table}", rows)
            for table, rows in {**data.tables, "models": feed.models()}.items()
        },
        API_LOGS.name: pa.Table.from_pylist(list(_log_rows(data, window)), schema=API_LOGS.schema),
        PROVIDER_METRICS.name: pa.Table.from_pylist(
            list(_samples(data)), schema=PROVIDER_METRICS.schema
        ),
    }


def stage_hour(run: Run, tables: dict[str, pa.Table]) -> None:
    """Stage rows of bronze tables for a run, as its extract tasks do."""
    for table, rows in tables.items():
        batch = Batch(table, draw_token(table), hours=run.window.labels(), allow_shrink=True)
        stage_rows(run, batch, rows.to_reader())


def _rows(table: str, source: pa.Table) -> pa.Table:
    """Add the lineage columns to rows of the application's database."""
    schema = CONTRACTS[table].schema
    rows = source.to_pylist()
    hashes = [hashlib.md5(repr(row).encode(), usedforsecurity=False).hexdigest() for row in rows]
    columns = {name: source[name] for name in source.column_names}
    for name in CONTRACTS[table].extras:
        columns[name] = pa.nulls(len(rows), schema.field(name).type)
    columns["_row_hash"] = pa.array(hashes, pa.string())
    columns["_is_deleted"] = pa.array([False] * len(rows), pa.bool_())
    if PARTITION in schema.names:
        columns[PARTITION] = pa.array([hour_label(row["updated_at"]) for row in rows], pa.string())
    return pa.table(columns).select(schema.names).cast(schema)


def _log_rows(data: HourData, window: Window) -> Iterator[dict[str, object]]:
    """Yield the lines that can be parsed and belong to the hour."""
    import msgspec  # noqa: PLC0415

    decoder, offset = msgspec.json.Decoder(LogLine), 0
    for line in data.log_lines:
        try:
            parsed = decoder.decode(line)
        except msgspec.MsgspecError:
            continue
        finally:
            offset += len(line) + 1
        if window.start <= parsed.timestamp < window.end:
            yield {
                **msgspec.structs.asdict(parsed),
                "_file": f"dt={window.start:%Y-%m-%d}/hour={window.start:%H}/api.jsonl",
                "_offset": offset,
                "_line_hash": hashlib.md5(line, usedforsecurity=False).hexdigest(),
                PARTITION: hour_label(parsed.timestamp),
            }


def _samples(data: HourData) -> Iterator[dict[str, object]]:
    for family in data.families:
        for series in (series for metric in family.metrics for series in metric):
            if series.name not in METRICS:
                continue
            labels = dict(series.labels)
            identity = json.dumps({**labels, "__name__": series.name}, sort_keys=True)
            series_id = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
            for time_ms, value in zip(series.times.tolist(), series.values.tolist(), strict=True):
                moment = EPOCH + time_ms * MILLISECOND
                yield {
                    "series_id": series_id,
                    "sampled_at": moment,
                    "metric": series.name,
                    "provider_id": labels.get("provider"),
                    "model_id": labels.get("model"),
                    "le": float(labels["le"]) if "le" in labels else None,
                    "value": value,
                    PARTITION: hour_label(moment),
                }
