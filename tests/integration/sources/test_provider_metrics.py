"""Prometheus' HTTP API on a real socket: only complete answers are staged."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pytest

from include.chimera.errors import ChimeraError, DataFaultError, SourceUnavailableError
from include.chimera.lake.staged.manifests import find_manifest
from include.chimera.profiles.chosen import intake_of
from include.chimera.profiles.metric_maps import METRICS
from include.chimera.sources.prometheus.extract import extract_provider_metrics
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from tests.builders import HOUR, LABEL, run_of, staged_rows
from tests.serving import served

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]

TABLE = "bronze.provider_metrics"
START = int(HOUR.timestamp())
Query = dict[str, str]
Answer = Callable[[Query], tuple[int, object]]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[Query]]]:
    """Serve canned answers; yield the URL and the queries received."""
    asked: list[Query] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query))
            asked.append(query)
            status, body = answer(query)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep the terminal clean."""

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, asked


def success(*series: dict, **more: object) -> tuple[int, dict]:
    """Return the answer to a range query."""
    return 200, {"status": "success", "data": {"resultType": "matrix", "result": series}, **more}


def samples(values: list[list], **labels: str) -> dict:
    """Return one series."""
    return {"metric": {"provider": "acme", "model": "m1", **labels}, "values": values}


def only(metric: str, start: int, *series: dict) -> Answer:
    """Answer one metric's query of one hour with the series, all others with none."""

    def answer(query: Query) -> tuple[int, dict]:
        is_asked = query["query"] == metric and float(query["start"]) == start
        return success(*(series if is_asked else ()))

    return answer


def test_each_hour_is_asked_for_without_its_end() -> None:
    """query_range includes both ends: the sample at the full hour is the next hour's."""
    with serving(lambda _: success()) as (url, asked):
        batch = extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    assert batch.hours == ["20260101T04", LABEL]
    spans = {(float(query["start"]), float(query["end"]), query["step"]) for query in asked}
    assert spans == {
        (START - 3600, START - 60, "60"),
        (START, START + 3600 - 60, "60"),
    }
    assert sorted(query["query"] for query in asked) == sorted(METRICS * 2)


def test_values_are_kept_as_they_are() -> None:
    """NaN and infinities are values; the last bucket's bound is infinite, too."""
    name = "llm_request_duration_seconds_bucket"
    values = [[START, "NaN"], [START + 60, "+Inf"], [START + 120.5, "1e-3"]]
    with serving(only(name, START, samples(values, le="+Inf"))) as (url, _):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    rows = duckdb.execute(
        "select epoch(sampled_at), metric, provider_id, model_id, cast(le as varchar), "
        f"cast(value as varchar), _window_hour from ({staged_rows(run_of(), TABLE)}) order by 1"
    ).fetchall()
    labels = (name, "acme", "m1", "inf")
    assert rows == [
        (START, *labels, "nan", LABEL),
        (START + 60, *labels, "inf", LABEL),
        (START + 120.5, *labels, "0.001", LABEL),
    ]


def test_a_series_is_known_again_by_its_labels_in_any_order() -> None:
    """Its id is part of the key."""
    one = {"metric": {"provider": "a", "model": "m"}, "values": [[START, "1"]]}
    two = {"metric": {"model": "m", "provider": "a"}, "values": [[START + 60, "1"]]}
    other = {"metric": {"provider": "a", "model": "n"}, "values": [[START, "1"]]}
    with serving(only("llm_provider_up", START, one, two, other)) as (url, _):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    found = duckdb.execute(
        f"select count(*), count(distinct series_id) from ({staged_rows(run_of(), TABLE)})"
    ).fetchone()
    assert found == (3, 2)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"warming up", SourceUnavailableError),
        (503, {"status": "error", "errorType": "unavailable"}, SourceUnavailableError),
        (200, b"<html>a proxy</html>", SourceUnavailableError),
        (400, {"status": "error", "errorType": "bad_data"}, DataFaultError),
        (200, success(warnings=["partial"])[1], DataFaultError),
    ],
)
def test_an_answer_that_is_not_whole_stages_nothing(
    status: int, body: object, error: type[ChimeraError]
) -> None:
    """Half an hour of samples would be published as the whole hour."""
    with serving(lambda _: (status, body)) as (url, _), pytest.raises(error):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    assert find_manifest(run_of(), TABLE) is None


def test_a_server_that_is_away_may_be_tried_again() -> None:
    """Its port is closed."""
    with serving(lambda _: success()) as (url, _):
        pass
    with pytest.raises(SourceUnavailableError):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
