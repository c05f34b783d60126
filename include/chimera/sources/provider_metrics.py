"""Provider metrics by Prometheus' HTTP API (`query_range`)."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa

from include.chimera.contracts import PARTITION, PROVIDER_METRICS
from include.chimera.errors import DataFaultError, SourceUnavailableError
from include.chimera.lake.stage import Batch
from include.chimera.lake.staging import stage_rows
from include.chimera.settings import get_settings
from include.chimera.window import Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.window import Run

logger = logging.getLogger(__name__)

METRICS = (
    "llm_provider_up",
    "llm_requests_total",
    "llm_request_errors_total",
    "llm_tokens_total",
    "llm_request_duration_seconds_bucket",
    "llm_request_duration_seconds_sum",
    "llm_request_duration_seconds_count",
)
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


def extract_provider_metrics(url: str, run: Run) -> Batch:
    """Stage the samples of the hours that the run's window and the lookback cover.

    Each hour is asked for on its own, at steps aligned to its start; `query_range` includes both
    ends, so the last step asked for is one before the hour's end.

    Args:
        url: Base URL of the Prometheus server.
        run: Its window bounds what is read.

    Raises:
        SourceUnavailableError: The server did not answer, or answered that it can't now.
        DataFaultError: It refused the query, or warned that the answer may be partial.
    """
    hours = run.window.widened(hours_before=get_settings().lookback_hours)
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        batches = _batches(client, hours)
        reader = pa.RecordBatchReader.from_batches(PROVIDER_METRICS.schema, batches)
        batch = Batch(PROVIDER_METRICS.name, 0, [], hours=hours.labels())
        staged = stage_rows(run, batch, reader)
    logger.info("staged %s samples of %s metrics", staged.rows_read, len(METRICS))
    return staged


def _batches(client: httpx.Client, hours: Window) -> Iterator[pa.RecordBatch]:
    for hour in hours.hours():
        for metric in METRICS:
            rows = [row for series in _query(client, metric, hour) for row in _rows(metric, series)]
            if rows:
                yield pa.RecordBatch.from_pylist(rows, schema=PROVIDER_METRICS.schema)


def _query(client: httpx.Client, metric: str, hour: Window) -> list[dict[str, Any]]:
    step = get_settings().scrape_step_seconds
    parameters: dict[str, str | float] = {
        "query": metric,
        "start": hour.start.timestamp(),
        "end": (hour.end - timedelta(seconds=step)).timestamp(),
        "step": step,
    }
    where = f"Prometheus, {metric}, hour {hour_label(hour.start)}"
    try:
        response = client.get("/api/v1/query_range", params=parameters)
        answer = response.json()
    except (httpx.TransportError, ValueError) as error:
        raise SourceUnavailableError(
            expected="an answer to query_range",
            came=type(error).__name__,
            where=where,
            remedy="check that the server is up and the Airflow connection prometheus names it",
        ) from error
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise SourceUnavailableError(
            expected="status 200",
            came=f"status {response.status_code}",
            where=where,
            remedy="wait for the server to recover; the task retries by itself",
        )
    if answer.get("status") != "success" or answer.get("warnings"):
        raise DataFaultError(
            expected="a complete answer",
            came=f"{answer.get('errorType', 'ok')}, {len(answer.get('warnings', []))} warnings",
            where=where,
            remedy="ask the same query in Prometheus' own UI and mend what it names",
        )
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def _rows(metric: str, series: dict[str, Any]) -> Iterator[dict[str, object]]:
    labels = series["metric"]
    bound = labels.get("le")
    identity = json.dumps({**labels, "__name__": metric}, sort_keys=True)
    series_id = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
    for seconds, value in series["values"]:
        sampled_at = datetime.fromtimestamp(float(seconds), UTC)
        yield {
            "series_id": series_id,
            "sampled_at": sampled_at,
            "metric": metric,
            "provider_id": labels.get("provider"),
            "model_id": labels.get("model"),
            "le": None if bound is None else float(bound),
            "value": float(value),
            PARTITION: hour_label(sampled_at),
        }
