"""Provider metrics by Prometheus' HTTP API (`query_range`).

Samples are kept as they are: counters with their resets, NaN and infinities, cumulative buckets.
What they mean is for the models that read them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa

from include.chimera.contracts import PARTITION, PROVIDER_METRICS
from include.chimera.errors import (
    ConfigurationError,
    ContractError,
    DataFaultError,
    SourceUnavailableError,
)
from include.chimera.faults import fault_point
from include.chimera.lake.fences import draw_token
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
# Prometheus answers at most 11,000 points a series; an hour has at most 3,600 (a step is >= 1 s).
# Source: prometheus/web/api/v1/api.go, query_range.
_PASSING = (408, 425, 429)
_SETTLING_SCRAPES = 2
_TYPES = ("matrix", "vector")


def extract_provider_metrics(url: str, run: Run) -> Batch:
    """Stage the samples of the hours that the run's window and the lookback cover.

    Each hour is asked for on its own, at steps aligned to its start; `query_range` includes both
    ends, so the last step asked for is one before the hour's end. Waits until two scrapes after
    the window's end have come in.

    Args:
        url: Base URL of the Prometheus server.
        run: Its window bounds what is read.

    Raises:
        SourceUnavailableError: The server did not answer, answered that it can't now, or the
            window has not ended.
        ConfigurationError: The server does not let us in, or is no Prometheus.
        DataFaultError: It refused the query, or warned that the answer may be partial.
    """
    hours = run.window.widened(hours_before=get_settings().lookback_hours)
    time.sleep(settling_seconds(run.window.end, datetime.now(UTC)))
    token = draw_token(PROVIDER_METRICS.name, hours.labels())
    fault_point("extract.start")
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        batches = _batches(client, hours)
        reader = pa.RecordBatchReader.from_batches(PROVIDER_METRICS.schema, batches)
        batch = Batch(PROVIDER_METRICS.name, token, hours=hours.labels())
        staged = stage_rows(run, batch, reader)
    logger.info("staged %s samples of %s metrics", staged.rows_read, len(METRICS))
    return staged


def settling_seconds(end: datetime, now: datetime) -> float:
    """Return how long to wait until two scrape intervals after `end` have passed.

    Raises:
        SourceUnavailableError: The window has not ended by this machine's clock.
    """
    settled = end + timedelta(seconds=_SETTLING_SCRAPES * get_settings().scrape_step_seconds)
    if now < end:
        raise SourceUnavailableError(
            expected=f"a clock after the window's end, {end.isoformat()}",
            came=now.isoformat(timespec="seconds"),
            where="provider_metrics, this machine's clock",
            remedy="wait for the hour to end; if it has, set the machine's clock (NTP)",
        )
    return max((settled - now).total_seconds(), 0.0)


def reach(url: str) -> datetime | None:
    """Return up to when every live series of `llm_provider_up` has samples; None: none is live.

    Live is what has a sample of the last five minutes and no staleness marker after it.

    Raises:
        ChimeraError: As `extract_provider_metrics` does.
    """
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        found = _ask(client, "query", {"query": f"timestamp({METRICS[0]})"}, "now")
    newest = [float(series["value"][1]) for series in found]
    return datetime.fromtimestamp(min(newest), UTC) if newest else None


def _batches(client: httpx.Client, hours: Window) -> Iterator[pa.RecordBatch]:
    for hour in hours.hours():
        for metric in METRICS:
            found = _query(client, metric, hour)
            rows = [row for series in found for row in _rows(metric, series, hour)]
            if rows:
                yield pa.RecordBatch.from_pylist(rows, schema=PROVIDER_METRICS.schema)


def _query(client: httpx.Client, metric: str, hour: Window) -> list[dict[str, Any]]:
    step = get_settings().scrape_step_seconds
    steps = (int((hour.end - hour.start).total_seconds()) - 1) // step
    parameters: dict[str, str | float] = {
        "query": metric,
        "start": hour.start.timestamp(),
        "end": (hour.start + timedelta(seconds=steps * step)).timestamp(),
        "step": step,
    }
    return _ask(client, "query_range", parameters, f"hour {hour_label(hour.start)}")


def _ask(
    client: httpx.Client, endpoint: str, parameters: dict[str, str | float], what: str
) -> list[dict[str, Any]]:
    where = f"Prometheus, {parameters['query']}, {what}"
    try:
        response = client.get(f"/api/v1/{endpoint}", params=parameters)
        _check_status(response.status_code, where)
        answer = response.json()
    except (httpx.TransportError, httpx.DecodingError, ValueError) as error:
        raise SourceUnavailableError(
            expected=f"an answer to {endpoint}",
            came=type(error).__name__,
            where=where,
            remedy="check that the server is up and the Airflow connection prometheus names it",
        ) from error
    return _result(answer, where)


def _check_status(status: int, where: str) -> None:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING:
        raise SourceUnavailableError(
            expected="status 200",
            came=f"status {status}",
            where=where,
            remedy="wait for the server to recover; the task retries by itself",
        )
    if status in (401, 403, 404):
        raise ConfigurationError(
            expected="a Prometheus server that lets us read",
            came=f"status {status}",
            where=where,
            remedy="correct host, port, path and login of the Airflow connection prometheus",
        )


def _result(answer: Any, where: str) -> list[dict[str, Any]]:  # noqa: ANN401 - parsed JSON
    is_object = isinstance(answer, dict)
    warnings = answer.get("warnings", []) if is_object else []
    if not is_object or answer.get("status") != "success" or warnings:
        came = str(answer.get("errorType", "warnings")) if is_object else type(answer).__name__
        raise DataFaultError(
            expected="a complete answer",
            came=f"{came}, {len(warnings)} warnings",
            where=where,
            remedy="ask the same query in Prometheus' own UI and mend what it names",
        )
    data = answer.get("data", {})
    if data.get("resultType") not in _TYPES or any("histograms" in x for x in data["result"]):
        raise ContractError(
            expected="float samples",
            came="native histograms" if "result" in data else str(data.get("resultType")),
            where=where,
            remedy="expose classic buckets (_bucket, _sum, _count) of this metric as well",
        )
    result: list[dict[str, Any]] = data["result"]
    return result


def _rows(metric: str, series: dict[str, Any], hour: Window) -> Iterator[dict[str, object]]:
    labels = series["metric"]
    bound = labels.get("le")
    identity = json.dumps({**labels, "__name__": metric}, sort_keys=True)
    series_id = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
    for seconds, value in series["values"]:
        sampled_at = datetime.fromtimestamp(float(seconds), UTC)
        if hour.start <= sampled_at < hour.end:
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
