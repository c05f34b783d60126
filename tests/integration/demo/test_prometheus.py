"""The demo's metrics server and a real Prometheus give the same answers to the same files."""

from datetime import UTC, datetime

import httpx
import pytest

from include.chimera.demo.metrics_server import MetricsServer
from include.chimera.demo.openmetrics import write_families
from include.chimera.demo.recorded.replayed import ReplayedFeed
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.window import HOUR, Window, hour_label
from tests.integration.prometheus import needs_prometheus, prometheus
from tests.serving import served

pytestmark = [pytest.mark.integration, needs_prometheus]

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOURS = [Window.of_hour(START + offset * HOUR) for offset in range(2)]
METRICS = (
    "llm_provider_up",
    "llm_requests_total",
    "llm_request_errors_total",
    "llm_request_duration_seconds_bucket",
    "llm_request_duration_seconds_sum",
    "llm_request_duration_seconds_count",
    "llm_tokens_total",
)


def write_hours(feed, folder):
    folder.mkdir()
    for hour in HOURS:
        (folder / f"{hour_label(hour.start)}.om").write_bytes(
            write_families(feed.hour(hour).families)
        )
    return folder


@pytest.fixture(scope="module", params=["generated", "replayed"])
def urls(request, tmp_path_factory):
    """Yield the real server's address and ours."""
    workspace = tmp_path_factory.mktemp("prometheus")
    if request.param == "generated":
        feed = GeneratedFeed(1000)
    else:
        feed = ReplayedFeed(request.getfixturevalue("traces_folder"), START)
    folder = write_hours(feed, workspace / "metrics")
    with prometheus(folder, workspace) as real, served(MetricsServer(folder, 0)) as ours:
        yield real, ours


def matrix(url, **parameters):
    answer = httpx.get(f"{url}/api/v1/query_range", params=parameters, timeout=30)
    assert answer.status_code == 200, answer.text
    return {
        tuple(sorted(series["metric"].items())): [
            (moment, float(value)) for moment, value in series["values"]
        ]
        for series in answer.json()["data"]["result"]
    }


def assert_agreement(urls, **parameters):
    real, ours = (matrix(url, **parameters) for url in urls)
    assert ours == real
    return real


@pytest.mark.parametrize("metric", METRICS)
def test_answers_agree_on_a_step_aligned_window(urls, metric):
    start, end = HOURS[0].start.timestamp(), HOURS[1].end.timestamp()
    found = assert_agreement(urls, query=metric, start=start, end=end - 60, step=60)
    assert found or metric != "llm_provider_up"


def test_answers_agree_before_between_and_after_the_samples(urls):
    start, end = HOURS[0].start.timestamp(), HOURS[1].end.timestamp()
    span = {"start": start - 600, "end": end + 600}
    assert assert_agreement(urls, query="llm_provider_up", **span, step=7)
    assert_agreement(urls, query="llm_requests_total", **span, step=300)


def test_times_of_the_newest_samples_agree(urls):
    """Before, at and after the last ones, until they are five minutes old."""
    for seconds in (-7200.5, -10, 0, 250, 299, 400):
        moment = HOURS[1].end.timestamp() + seconds
        asked = {"query": "timestamp(llm_provider_up)", "time": moment}
        answers = [httpx.get(f"{url}/api/v1/query", params=asked).json()["data"] for url in urls]
        for answer in answers:
            answer["result"].sort(key=str)
            for series in answer["result"]:
                series["value"] = [float(each) for each in series["value"]]
        assert answers[0] == answers[1]


def test_refusals_agree(urls):
    good = {"query": "llm_provider_up", "start": 0, "end": 60, "step": 60}
    for change in ({"step": 0}, {"end": -1}, {"start": "soon"}, {"end": 11_001, "step": 1}):
        answers = [httpx.get(f"{url}/api/v1/query_range", params=good | change) for url in urls]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert {answer.json()["errorType"] for answer in answers} == {"bad_data"}
