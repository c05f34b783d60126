"""A Prometheus that answers too slowly, too much or nonsense costs only its own samples."""

import gzip
import itertools
import json
import time
import tracemalloc
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pytest

from include.chimera.errors import (
    ConfigurationError,
    ContractError,
    DataFaultError,
    SourceUnavailableError,
)
from include.chimera.profiles.chosen import intake_of
from include.chimera.sources.prometheus import prometheus_api
from include.chimera.sources.prometheus.extract import extract_provider_metrics, reach
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from tests.builders import HOUR, run_of, staged_refusals, staged_rows
from tests.serving import served

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
TABLE, START, CANARY = "bronze.provider_metrics", int(HOUR.timestamp()), "jane.doe@example.com"
UP = {"provider": "acme", "model": "m1"}


@contextmanager
def serving(handle):
    """Serve `handle(handler, query)`, which writes the whole response."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                handle(self, dict(parse_qsl(urlsplit(self.path).query)))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_):
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def send(handler, document, **headers):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    handler.send_response(200)
    for name, value in {"Content-Length": len(body), **headers}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def matrix(*series):
    return {"status": "success", "data": {"resultType": "matrix", "result": list(series)}}


def answering(*series, metric="llm_provider_up"):
    """Answer one metric's query of the run's hour with the series."""

    def handle(handler, query):
        is_asked = query["query"] == metric and float(query["start"]) == START
        send(handler, matrix(*(series if is_asked else ())))

    return serving(handle)


def drip_body(handler, _):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def drip_headers(handler, _):
    for _ in range(600):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n"[:1])
        time.sleep(0.05)


@pytest.mark.parametrize("drip", [drip_body, drip_headers])
def test_a_server_that_drips_holds_no_task(drip, monkeypatch):
    """Each byte comes in time, but the answer never ends: neither extract nor sensor waits."""
    monkeypatch.setattr(prometheus_api, "_WHOLE_SECONDS", 0.3)
    with serving(drip) as url:
        for look in (
            lambda: extract_provider_metrics(
                intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
            ),
            lambda: reach(PrometheusServer(url)),
        ):
            begun = time.monotonic()
            with pytest.raises(SourceUnavailableError, match=r"TimeoutError|RemoteProtocolError"):
                look()
            assert time.monotonic() - begun < 15


def flood(handler, _):
    handler.send_response(200)
    handler.end_headers()
    for _ in itertools.count():
        handler.wfile.write(b" " * 65536)


def bomb(handler, _):
    send(handler, gzip.compress(b" " * 64 * 1024 * 1024), Content_Encoding="gzip")


@pytest.mark.parametrize("send_much", [flood, bomb])
def test_an_answer_without_end_is_not_read_to_its_end(send_much, monkeypatch):
    """Neither plain nor compressed."""
    monkeypatch.setattr(prometheus_api, "_MOST_BYTES", 1024 * 1024)
    with serving(send_much) as url, pytest.raises(DataFaultError, match="at most 1 MiB"):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )


def test_an_answer_packed_twice_is_not_unpacked():
    """Compression multiplies: 5 KB, compressed twice, took 6 GB before they could be counted."""
    packed = gzip.compress(gzip.compress(b" " * 64 * 1024 * 1024))
    with serving(lambda asker, _: send(asker, packed, Content_Encoding="gzip, gzip")) as url:
        tracemalloc.start()
        with pytest.raises(SourceUnavailableError, match="DecodingError"):
            extract_provider_metrics(
                intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
            )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 32 * 1024 * 1024


def test_many_series_are_made_rows_a_few_at_a_time():
    """Memory holds the answer's text, but not an object for each of its numbers."""
    samples = [[START + 60 * step, str(step / 7)] for step in range(60)]
    many = [{"metric": {**UP, "n": str(n)}, "values": samples} for n in range(500)]
    with answering(*many) as url:
        size = len(json.dumps(matrix(*many)))
        tracemalloc.start()
        batch = extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert batch.rows_read == 30_000
    assert peak < 4 * size + 12_000_000  # the batches on their way


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"status": "error", "errorType": CANARY * 10_000}, DataFaultError),
        ({"status": "error", "errorType": f"\x1b[2J{CANARY}"}, DataFaultError),
        ({"status": CANARY}, DataFaultError),
        ({**matrix(), "warnings": [CANARY * 10_000]}, DataFaultError),
        ({**matrix(), "isPartial": True}, DataFaultError),
        ({"status": "success", "data": {"resultType": "matrix"}}, DataFaultError),
        ({"status": "success", "data": {"resultType": CANARY, "result": []}}, ContractError),
        (
            {"status": "success", "data": {"resultType": "matrix", "result": CANARY}},
            SourceUnavailableError,
        ),
        ({"status": "success", "data": CANARY}, SourceUnavailableError),
        ([CANARY], SourceUnavailableError),
        (f'{{"status": "{CANARY}'.encode(), SourceUnavailableError),
        (b"[" * 100_000, SourceUnavailableError),
    ],
)
def test_what_a_server_says_is_told_by_kind_and_length(document, error, caplog):
    """Its text may repeat the query, be endless, or contain terminal commands."""
    with (
        serving(lambda handler, _: send(handler, document)) as url,
        pytest.raises(error) as raised,
    ):
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    told = f"{raised.value!r} {raised.value.__cause__!r} {caplog.text}"
    assert len(str(raised.value)) < 500
    assert (CANARY in told, "\x1b" in told) == (False, False)


def test_a_server_that_sends_us_elsewhere_is_a_wrong_setting():
    """Usually to a login page; we don't follow, and waiting does not help."""

    def redirect(handler, _):
        handler.send_response(302)
        handler.send_header("Location", f"http://{CANARY}/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(redirect) as url, pytest.raises(ConfigurationError, match="status 302") as raised:
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    assert CANARY not in str(raised.value)


def test_each_way_to_write_a_number_is_read():
    values = ["0.5", ".5", "5.", "1e-05", "+Inf", "-Inf", "NaN", "-0", 1]
    samples = [[START + number, text] for number, text in enumerate(values)]
    with answering({"metric": UP, "values": samples}) as url:
        batch = extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    assert (batch.rows_read, batch.rows_unparsed) == (len(values), 0)


BAD_SAMPLES = [
    [START, CANARY],
    [CANARY, "1"],
    ["NaN", "1"],
    [1e300, "1"],
    [START, "1e309"],
    [START, "1_000"],
    [START, "٣"],
    [START, " 1"],
    [START, None],
    [START, True],
    [START, 10**400],
    [START, [CANARY]],
    [START],
    [START, "1", "2"],
    CANARY,
    None,
    {"value": CANARY},
]


def test_a_sample_that_is_no_number_is_a_dead_letter_and_costs_no_other(caplog):
    """Its text is only in the letter's payload."""
    values = [[START, "1"], *BAD_SAMPLES, [START + 60, "2"]]
    with answering({"metric": UP, "values": values}) as url:
        batch = extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    assert (batch.rows_read, batch.rows_unparsed) == (len(values), len(BAD_SAMPLES))
    query = f"select reason, coordinates from ({staged_refusals(run_of(), TABLE)})"
    found = duckdb.execute(query).fetchall()
    assert {reason for reason, _ in found} == {"sample_not_a_number"}
    assert [json.loads(where) for _, where in found] == [
        {"query": "llm_provider_up, hour 20260101T05", "series": 0, "sample": number}
        for number in range(1, len(BAD_SAMPLES) + 1)
    ]
    assert CANARY not in caplog.text


BAD_SERIES = [
    ({"metric": {**UP, "le": CANARY}, "values": [[START, "1"]]}, "sample_not_a_number"),
    ({"metric": {**UP, "model": "m" * 2000}, "values": [[START, "1"]]}, "label_too_long"),
    ({"metric": {"provider": 7}, "values": [[START, "1"]]}, "malformed_series"),
    ({"metric": CANARY, "values": []}, "malformed_series"),
    ({"metric": UP}, "malformed_series"),
    (CANARY, "malformed_series"),
]


def test_a_series_that_is_none_is_a_dead_letter(caplog):
    """The next one is read."""
    good = {"metric": UP, "values": [[START, "1"]]}
    with answering(*(series for series, _ in BAD_SERIES), good) as url:
        extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    query = f"select reason from ({staged_refusals(run_of(), TABLE)})"
    assert [row[0] for row in duckdb.execute(query).fetchall()] == [why for _, why in BAD_SERIES]
    rows = f"select provider_id from ({staged_rows(run_of(), TABLE)})"
    assert duckdb.execute(rows).fetchall() == [("acme",)]
    assert CANARY not in caplog.text


def test_many_bad_samples_are_counted_and_not_all_kept():
    values = [[START, CANARY]] * 5_000
    with answering({"metric": UP, "values": values}) as url:
        batch = extract_provider_metrics(
            intake_of("bronze.provider_metrics"), PrometheusServer(url), run_of()
        )
    assert (batch.rows_read, batch.rows_unparsed) == (5_000, 5_000)
    query = (
        f"select reason, count(*) from ({staged_refusals(run_of(), TABLE)}) group by 1 order by 2"
    )
    assert duckdb.execute(query).fetchall() == [("more_refused", 1), ("sample_not_a_number", 1000)]


@pytest.mark.parametrize("series", [{"value": [START, CANARY]}, {"value": []}, {}, CANARY])
def test_a_newest_sample_without_a_time_is_a_data_fault(series):
    """The sensor asks for it."""
    vector = {"status": "success", "data": {"resultType": "vector", "result": [series]}}
    with (
        serving(lambda handler, _: send(handler, vector)) as url,
        pytest.raises(DataFaultError, match="1 series") as raised,
    ):
        reach(PrometheusServer(url))
    assert CANARY not in f"{raised.value!r}{raised.value.__cause__!r}"
