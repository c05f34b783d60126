"""Extract provider metrics from Prometheus' HTTP API (`query_range`).

Samples are stored as they are: counters with their resets, NaN and infinities, cumulative buckets.
Downstream models interpret them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from include.chimera.contracts import PARTITION, PROVIDER_METRICS
from include.chimera.errors import DataFaultError, SourceUnavailableError
from include.chimera.fault_points import fault_point
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.settings import get_settings
from include.chimera.sources.prometheus.prometheus_api import ask
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.window import Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
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
# Prometheus returns at most 11,000 points a series; an hour has at most 3,600 (a step is >= 1 s).
# Source: prometheus/web/api/v1/api.go, query_range.
_SETTLING_SCRAPES = 2
_BATCH_ROWS = 10_000
_LONGEST_LABEL = 1024  # characters; Prometheus' own limits (label_value_length_limit) are lower
_NOT_A_NUMBER = (ValueError, TypeError, OverflowError, OSError)  # of float and fromtimestamp
# Numbers as Prometheus writes them; Python's `float` also accepts 1_000 and non-ASCII digits.
_NUMBER = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.ASCII | re.IGNORECASE
)
NO_SERIES, NO_SAMPLE, LONG_LABEL = "malformed_series", "sample_not_a_number", "label_too_long"


class _Series(msgspec.Struct):
    """One series of an answer; its samples are checked one by one later."""

    metric: dict[str, str]
    values: list[Any]


_SERIES = msgspec.json.Decoder(_Series)


def extract_provider_metrics(server: PrometheusServer, run: Run) -> Batch:
    """Stage the samples of the hours in the run's window and in the lookback before it.

    Query each hour separately, at steps aligned to its start; `query_range` includes both ends, so
    the last step is one before the hour's end. Wait until two scrape intervals after the window's
    end have passed. Refuse a sample whose value, bucket bound or time is not a number, and a
    malformed series.

    Args:
        server: Its address and our login.
        run: The run, whose window limits what is read.

    Raises:
        SourceUnavailableError: The server did not answer or is unavailable, or the window has not
            ended.
        ConfigurationError: The server refuses the login, or is not Prometheus.
        DataFaultError: The server refused the query, or warned that the answer may be partial.
    """
    hours = run.window.widened(hours_before=get_settings().lookback_hours)
    time.sleep(settling_seconds(run.window.end, datetime.now(UTC)))
    token = draw_token(PROVIDER_METRICS.name, hours.labels())
    fault_point("extract.start")
    with RefusedRecords() as refused:
        reader = pa.RecordBatchReader.from_batches(
            PROVIDER_METRICS.schema, _batches(server, hours, refused)
        )
        batch = Batch(PROVIDER_METRICS.name, token, hours=hours.labels())
        staged = stage_rows(run, batch, reader, refused=refused.batches, omitted=refused.omitted)
    logger.info(
        "staged %s samples of %s metrics, refused %s",
        staged.rows_read - staged.rows_unparsed,
        len(METRICS),
        staged.rows_unparsed,
    )
    return staged


def settling_seconds(end: datetime, now: datetime) -> float:
    """Return how many seconds to wait until two scrape intervals after `end` have passed.

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


def reach(server: PrometheusServer) -> datetime | None:
    """Return the time (UTC) up to which every live series of `llm_provider_up` has samples.

    A series is live if it has a sample from the last five minutes and no staleness marker after
    it. None: no series is live.

    Raises:
        ChimeraError: As `extract_provider_metrics`.
        DataFaultError: A time is not a number.
    """
    where = f"Prometheus, {METRICS[0]}, now"
    found = ask(server, "query", {"query": f"timestamp({METRICS[0]})"}, where)
    try:
        newest = [_moment(msgspec.json.decode(series)["value"][1]) for series in found]
    except (msgspec.MsgspecError, LookupError, *_NOT_A_NUMBER):
        raise DataFaultError(
            expected="the times of the newest samples",
            came=f"one of {len(found)} series has none that is a number",
            where=where,
            remedy="ask the same query in Prometheus' own UI and mend what it names",
        ) from None  # the error's text holds the value
    return min(newest, default=None)


def _batches(
    server: PrometheusServer, hours: Window, refused: RefusedRecords
) -> Iterator[pa.RecordBatch]:
    for hour in hours.hours():
        for metric in METRICS:
            rows = _rows(metric, _query(server, metric, hour), hour, refused)
            while chunk := list(islice(rows, _BATCH_ROWS)):
                yield pa.RecordBatch.from_pylist(chunk, schema=PROVIDER_METRICS.schema)


def _query(server: PrometheusServer, metric: str, hour: Window) -> list[msgspec.Raw]:
    step = get_settings().scrape_step_seconds
    steps = (int((hour.end - hour.start).total_seconds()) - 1) // step
    parameters: dict[str, str | float] = {
        "query": metric,
        "start": hour.start.timestamp(),
        "end": (hour.start + timedelta(seconds=steps * step)).timestamp(),
        "step": step,
    }
    where = f"Prometheus, {metric}, hour {hour_label(hour.start)}"
    return ask(server, "query_range", parameters, where)


def _rows(
    metric: str, found: list[msgspec.Raw], hour: Window, refused: RefusedRecords
) -> Iterator[dict[str, object]]:
    label = hour_label(hour.start)
    for place, raw in enumerate(found):

        def refuse(reason: str, payload: bytes, sample: int = 0, place: int = place) -> None:
            where = {"query": f"{metric}, hour {label}", "series": place, "sample": sample}
            refused.add(reason, where, payload, label)

        try:
            series = _SERIES.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            refuse(NO_SERIES, b'{"series": %b}' % bytes(raw))
            continue
        stored = (series.metric.get("provider", ""), series.metric.get("model", ""))
        if max(map(len, stored)) > _LONGEST_LABEL:
            refuse(LONG_LABEL, b'{"series": %b}' % bytes(raw))
            continue
        yield from _samples(metric, series, hour, refuse)


def _samples(
    metric: str, series: _Series, hour: Window, refuse: Callable[[str, bytes, int], None]
) -> Iterator[dict[str, object]]:
    labels = series.metric
    identity = json.dumps({**labels, "__name__": metric}, sort_keys=True)
    row = {
        "series_id": hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest(),
        "metric": metric,
        "provider_id": labels.get("provider"),
        "model_id": labels.get("model"),
    }
    for number, sample in enumerate(series.values):
        try:
            seconds, value = sample
            sampled_at, value = _moment(seconds), _number(value)
            bound = _number(labels["le"]) if "le" in labels else None
        except _NOT_A_NUMBER:
            document = {"labels": labels, "sample": sample}
            refuse(NO_SAMPLE, msgspec.json.encode(document), number)
            continue
        if hour.start <= sampled_at < hour.end:
            label = hour_label(sampled_at)
            yield {**row, "sampled_at": sampled_at, "le": bound, "value": value, PARTITION: label}


def _number(value: Any) -> float:  # noqa: ANN401 - parsed JSON
    if isinstance(value, bool):
        raise TypeError
    if not isinstance(value, str):
        return float(value)
    if not _NUMBER.fullmatch(value):
        raise ValueError
    number = float(value)
    if math.isinf(number) and value[-1].isdigit():
        raise OverflowError
    return number


def _moment(seconds: Any) -> datetime:  # noqa: ANN401 - parsed JSON
    return datetime.fromtimestamp(_number(seconds), UTC)
