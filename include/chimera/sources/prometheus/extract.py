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
from dataclasses import dataclass
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
from include.chimera.profiles.metric_maps import metric_map
from include.chimera.settings import get_settings
from include.chimera.sources.prometheus.prometheus_api import ask
from include.chimera.sources.refused_records import RefusedRecords
from include.chimera.window import Window, hour_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from include.chimera.profiles.chosen import Intake
    from include.chimera.profiles.metric_maps import MetricMap
    from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
    from include.chimera.window import Run

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class _Asked:
    """One query of one hour.

    Args:
        metric: What it is kept as.
        query: The PromQL.
        hour: The hour.
        known: The map that it is from.
    """

    metric: str
    query: str
    hour: Window
    known: MetricMap

    @property
    def identity(self) -> str:
        """The name by which its series are told from those of other queries."""
        return self.metric if self.query == self.metric else f"{self.metric} = {self.query}"

    def names(self, labels: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Return a series' provider and model, as it has them; None: it has no such label."""
        provider, model = (
            next((labels[name] for name in names if labels.get(name, "None") != "None"), None)
            for names in (self.known.provider, self.known.model)
        )
        return provider or self.known.default_provider or provider, model

    def kept(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return the labels that the map names, which is all that a dead letter may show."""
        names = ("le", *self.known.provider, *self.known.model)
        return {name: labels[name] for name in names if name in labels}


def extract_provider_metrics(intake: Intake, server: PrometheusServer, run: Run) -> Batch:
    """Stage the samples of the hours in the run's window and in the lookback before it.

    Query each hour separately, at steps aligned to its start; `query_range` includes both ends, so
    the last step is one before the hour's end. Wait until two scrape intervals after the window's
    end have passed. Refuse a sample whose value, bucket bound or time is not a number, and a
    malformed series.

    Args:
        intake: How the table is filled: the map of the platform's metrics.
        server: Its address and our login.
        run: The run, whose window limits what is read.

    Raises:
        SourceUnavailableError: The server did not answer or is unavailable, or the window has not
            ended.
        ConfigurationError: The server refuses the login, or is not Prometheus.
        DataFaultError: The server refused the query, or warned that the answer may be partial.
    """
    known = metric_map(intake)
    hours = run.window.widened(hours_before=get_settings().lookback_hours)
    time.sleep(settling_seconds(run.window.end, datetime.now(UTC)))
    token = draw_token(PROVIDER_METRICS.name, hours.labels())
    fault_point("extract.start")
    with RefusedRecords() as refused:
        reader = pa.RecordBatchReader.from_batches(
            PROVIDER_METRICS.schema, _batches(server, known, hours, refused)
        )
        batch = Batch(PROVIDER_METRICS.name, token, hours=hours.labels())
        staged = stage_rows(
            run,
            batch,
            reader,
            refused=lambda _: refused.batches(),
            omitted=refused.omitted,
        )
    logger.info(
        "staged %s samples of %s metrics, refused %s",
        staged.rows_read - staged.rows_unparsed,
        len(known.metrics),
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
    """Return the time (UTC) up to which every live series of the platform's heartbeat has samples.

    A series is live if it has a sample from the last five minutes and no staleness marker after
    it. None: no series is live.

    Raises:
        ChimeraError: As `extract_provider_metrics`.
        DataFaultError: A time is not a number.
    """
    heartbeat = metric_map().heartbeat
    where = f"Prometheus, {heartbeat}, now"
    found = ask(server, "query", {"query": f"timestamp({heartbeat})"}, where)
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
    server: PrometheusServer, known: MetricMap, hours: Window, refused: RefusedRecords
) -> Iterator[pa.RecordBatch]:
    for hour in hours.hours():
        for metric, query in known.queries:
            asked = _Asked(metric, query, hour, known)
            rows = _rows(asked, _query(server, query, hour), refused)
            while chunk := list(islice(rows, _BATCH_ROWS)):
                yield pa.RecordBatch.from_pylist(chunk, schema=PROVIDER_METRICS.schema)


def _query(server: PrometheusServer, query: str, hour: Window) -> list[msgspec.Raw]:
    step = get_settings().scrape_step_seconds
    steps = (int((hour.end - hour.start).total_seconds()) - 1) // step
    parameters: dict[str, str | float] = {
        "query": query,
        "start": hour.start.timestamp(),
        "end": (hour.start + timedelta(seconds=steps * step)).timestamp(),
        "step": step,
    }
    where = f"Prometheus, {query}, hour {hour_label(hour.start)}"
    return ask(server, "query_range", parameters, where)


def _rows(
    asked: _Asked, found: list[msgspec.Raw], refused: RefusedRecords
) -> Iterator[dict[str, object]]:
    label = hour_label(asked.hour.start)
    for place, raw in enumerate(found):

        def refuse(reason: str, payload: bytes, sample: int = 0, place: int = place) -> None:
            where = {"query": f"{asked.query}, hour {label}", "series": place, "sample": sample}
            refused.add(reason, where, payload, label)

        try:
            series = _SERIES.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            refuse(NO_SERIES, b'{"series": %b}' % bytes(raw))
            continue
        if max(len(name or "") for name in asked.names(series.metric)) > _LONGEST_LABEL:
            refuse(LONG_LABEL, b'{"series": %b}' % bytes(raw))
            continue
        yield from _samples(asked, series, refuse)


def _samples(
    asked: _Asked, series: _Series, refuse: Callable[[str, bytes, int], None]
) -> Iterator[dict[str, object]]:
    labels, hour = series.metric, asked.hour
    identity = json.dumps({**labels, "__name__": asked.identity}, sort_keys=True)
    provider, model = asked.names(labels)
    row = {
        "series_id": hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest(),
        "metric": asked.metric,
        "provider_id": provider,
        "model_id": model,
    }
    for number, sample in enumerate(series.values):
        try:
            seconds, value = sample
            sampled_at, value = _moment(seconds), _number(value)
            bound = _number(labels["le"]) if "le" in labels else None
        except _NOT_A_NUMBER:
            document = {"labels": asked.kept(labels), "sample": sample}
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
