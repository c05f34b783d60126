"""Provider metrics: a real Prometheus for its normal answers, a small server for bad ones."""

import json
import math
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from include.chimera.errors import (
    ConfigurationError,
    ContractError,
    DataFaultError,
    ShrinkError,
    SourceUnavailableError,
)
from include.chimera.lake.staged.manifests import load_manifest
from include.chimera.lake.staged.stage_rows import rows_of
from include.chimera.lake.store.duckdb_sessions import connect
from include.chimera.profiles.chosen import intake_of
from include.chimera.profiles.metric_maps import METRICS
from include.chimera.sources.prometheus.extract import (
    extract_provider_metrics,
    settling_seconds,
)
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from include.chimera.window import Run
from tests.builders import METRICS_INTAKE
from tests.integration.ingest.pipeline import START, hour, publish, rows, run_of
from tests.integration.prometheus import needs_prometheus, prometheus
from tests.serving import served

pytestmark = pytest.mark.integration
TABLE = "bronze.provider_metrics"


@contextmanager
def answering(answer):
    """Serve `answer(metric, start, end)`: status, and a JSON document or raw bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = httpx.QueryParams(self.path.partition("?")[2])
            status, document = answer(query["query"], float(query["start"]), float(query["end"]))
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def matrix(*series):
    return {"status": "success", "data": {"resultType": "matrix", "result": list(series)}}


def series(metric, start, values, **labels):
    samples = [[start + 60 * step, value] for step, value in enumerate(values)]
    return {"metric": {"__name__": metric, "provider": "dione", **labels}, "values": samples}


def staged(run):
    with connect() as connection:
        query = rows_of(run, load_manifest(run, TABLE))
        return connection.execute(f"select metric, value, le from ({query})").fetchall()


def ingest(url, run):
    extract_provider_metrics(METRICS_INTAKE, PrometheusServer(url), run)
    return publish(run, TABLE)


def test_values_are_kept_as_they_are():
    """NaN, infinities, a counter's reset and a histogram's last bucket: the gate judges them."""
    values = {
        "llm_provider_up": ["1", "NaN", "+Inf", "-Inf"],
        "llm_requests_total": ["10", "12", "1", "2"],
    }

    def answer(metric, start, _):
        if metric.endswith("_bucket"):
            return 200, matrix(
                *(series(metric, start, ["3"], le=bound) for bound in ("0.5", "+Inf"))
            )
        return 200, matrix(series(metric, start, values.get(metric, [])))

    with answering(answer) as url:
        first = ingest(url, run_of(0))
        again = ingest(url, run_of(0, "again"))
    found = staged(run_of(0))
    ups = [value for metric, value, _ in found if metric == "llm_provider_up"]
    assert sum(map(math.isnan, ups)) == 2
    assert {value for value in ups if not math.isnan(value)} == {1, math.inf, -math.inf}
    assert sorted(v for m, v, _ in found if m == "llm_requests_total") == [
        1,
        1,
        2,
        2,
        10,
        10,
        12,
        12,
    ]
    assert {le for m, _, le in found if m.endswith("_bucket")} == {0.5, math.inf}
    assert (again.rows_published, again.version) == (0, first.version)


def exposition(samples):
    """Return an hour's OpenMetrics text; `samples` maps type and series to a value each minute."""
    begin, lines = int(START.timestamp()), []
    for (kind, name), found in samples.items():
        lines.append(f"# TYPE {name} {kind}")
        for labels, values in found.items():
            lines += [
                f"{labels} {value} {begin + 60 * minute}" for minute, value in enumerate(values)
            ]
    return "\n".join([*lines, "# EOF", ""])


@needs_prometheus
def test_a_real_servers_resets_histograms_and_odd_values_arrive_as_they_are(tmp_path):
    """The provider restarts in the middle: its counters start at zero, and none is smoothed."""
    who = 'provider="dione",model="dione/m1"'
    restarted = [*range(10, 40), *range(30)]
    duration = "llm_request_duration_seconds"
    samples = {
        ("gauge", "llm_provider_up"): {
            f"llm_provider_up{{{who}}}": ["1", "NaN", "+Inf", "-Inf"] * 15,
        },
        ("counter", "llm_requests"): {f"llm_requests_total{{{who}}}": restarted},
        ("histogram", duration): {
            f'{duration}_bucket{{{who},le="0.5"}}': [value // 2 for value in restarted],
            f'{duration}_bucket{{{who},le="+Inf"}}': restarted,
            f"{duration}_sum{{{who}}}": [value / 2 for value in restarted],
            f"{duration}_count{{{who}}}": restarted,
        },
    }
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "hour.om").write_text(exposition(samples))
    with prometheus(tmp_path / "metrics", tmp_path) as url:
        first, again = (ingest(url, run_of(0, name)) for name in ("first", "again"))
    assert (first.rows_read, first.rows_published, first.rows_refused) == (360, 315, 45)
    assert again.rows_published == 0
    ups = [value for metric, value, _ in staged(run_of(0, "first")) if metric == "llm_provider_up"]
    assert ups == pytest.approx([1, math.nan, math.inf, -math.inf] * 15, nan_ok=True)
    found = {}
    for metric, bound, moment, value in rows(TABLE, "metric, le, sampled_at, value"):
        found.setdefault((metric, bound), []).append((moment, value))
    assert set(found.pop(("llm_provider_up", None))) == {
        (START + timedelta(minutes=minute), 1) for minute in range(0, 60, 4)
    }
    expected = {
        ("llm_requests_total", None): restarted,
        (f"{duration}_bucket", 0.5): [value // 2 for value in restarted],
        (f"{duration}_bucket", math.inf): restarted,
        (f"{duration}_sum", None): [value / 2 for value in restarted],
        (f"{duration}_count", None): restarted,
    }
    moments = [START + timedelta(minutes=minute) for minute in range(60)]
    assert found == {
        key: list(zip(moments, values, strict=True)) for key, values in expected.items()
    }


def test_every_query_is_aligned_and_ends_before_the_hour_does():
    asked = []

    def answer(metric, start, end):
        asked.append((metric, start, end))
        return 200, matrix(series(metric, start - 60, ["1"] * 62))

    with answering(answer) as url:
        ingest(url, run_of(0))
    starts = {(START - timedelta(hours=1)).timestamp(), START.timestamp()}
    assert {start for _, start, _ in asked} == starts
    assert all(end == start + 3540 for _, start, end in asked)
    assert len(rows(TABLE)) == 2 * 60 * len(METRICS)


@pytest.mark.parametrize(
    ("status", "document", "error"),
    [
        (503, b"overloaded", SourceUnavailableError),
        (500, {"status": "error", "errorType": "internal"}, SourceUnavailableError),
        (429, b"", SourceUnavailableError),
        (429, {"status": "error", "errorType": "too_many_requests"}, SourceUnavailableError),
        (200, b'{"status":"success","data":{"resu', SourceUnavailableError),
        (200, {**matrix(), "warnings": ["a store is away"]}, DataFaultError),
        (422, {"status": "error", "errorType": "execution"}, DataFaultError),
        (400, {"status": "error", "errorType": "bad_data"}, DataFaultError),
        (401, b"", ConfigurationError),
        (404, b"<html>", ConfigurationError),
        (200, matrix({"metric": {}, "histograms": []}), ContractError),
    ],
)
def test_a_bad_answer_has_the_class_that_decides_its_retries(status, document, error):
    """The class survives DuckDB, which pulls the samples, and nothing is staged."""
    with answering(lambda *_: (status, document)) as url, pytest.raises(error, match="Prometheus"):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of(0)
        )
    assert rows(TABLE) == []


def test_an_empty_answer_never_empties_an_hour():
    with answering(lambda metric, start, _: (200, matrix(series(metric, start, ["1"])))) as url:
        ingest(url, run_of(0))
    before = rows(TABLE)
    with answering(lambda *_: (200, matrix())) as url, pytest.raises(ShrinkError):
        ingest(url, run_of(0, "empty"))
    assert rows(TABLE) == before
    with answering(lambda *_: (200, matrix())) as url:
        assert ingest(url, run_of(7)).rows_read == 0


def test_an_hour_is_read_two_scrapes_after_its_end():
    end = hour(0).end
    assert settling_seconds(end, end + timedelta(seconds=30)) == 90
    assert settling_seconds(end, end + timedelta(hours=2)) == 0
    with pytest.raises(SourceUnavailableError, match="clock"):
        settling_seconds(end, end - timedelta(seconds=1))


def test_a_server_that_is_away_is_tried_again():
    with pytest.raises(SourceUnavailableError, match="Prometheus"):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"),
            PrometheusServer("http://127.0.0.1:9"),
            Run("away", hour(0)),
        )
