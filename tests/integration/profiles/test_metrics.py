"""The metrics that platforms really expose, asked of a real Prometheus by each profile's map."""

import re
from contextlib import contextmanager

import pytest

from include.chimera.contracts import PROVIDER_METRICS
from include.chimera.profiles.chosen import intake_of
from include.chimera.profiles.metric_maps import metric_map
from include.chimera.sources.prometheus.extract import extract_provider_metrics, reach
from include.chimera.sources.prometheus.prometheus_api import PrometheusServer
from include.chimera.window import HOUR
from tests.integration.ingest.pipeline import START, publish, rows, run_of
from tests.integration.prometheus import needs_prometheus, prometheus

pytestmark = [pytest.mark.integration, needs_prometheus]

TABLE = PROVIDER_METRICS.name
SCRAPED = 'job="platform",instance="a:1"'
STEP = 60
CALLS = 'gen_ai_system="openai",gen_ai_request_model="m"'
OTEL = f"""
gen_ai_client_operation_duration_seconds_count{{{CALLS}}} 4
gen_ai_client_operation_duration_seconds_count{{gen_ai_provider_name="aws",error_type="a"}} 1
gen_ai_client_operation_duration_seconds_sum{{{CALLS}}} 8.5
gen_ai_client_operation_duration_seconds_bucket{{{CALLS},le="5.12"}} 3
gen_ai_client_token_usage_sum{{{CALLS},gen_ai_token_type="input"}} 100
gen_ai_client_token_usage_sum{{{CALLS},gen_ai_token_type="output"}} 30
"""


def scraped(line):
    """Return a sample with the labels that a scrape adds."""
    name, labels, value = re.fullmatch(r"([\w:]+)(?:\{(.*)\})? (\S+)", line).groups()
    return f"{name}{{{f'{labels},' if labels else ''}{SCRAPED}}} {value}"


@contextmanager
def served(text, folder, is_up=lambda _: True):
    """Serve an exposition scraped each minute of an hour, while the platform is up."""
    samples = [scraped(line) for line in text.splitlines() if line and not line.startswith("#")]
    moments = range(int(START.timestamp()), int((START + HOUR).timestamp()), STEP)
    lines = [f"{sample} {moment}" for sample in samples for moment in moments if is_up(moment)]
    ups = [f"up{{{SCRAPED}}} {int(is_up(moment))} {moment}" for moment in moments]
    (folder / "metrics").mkdir()
    (folder / "metrics" / "all.om").write_text("\n".join([*lines, *ups, "# EOF", ""]))
    with prometheus(folder / "metrics", folder) as url:
        yield PrometheusServer(url)


def ingest(server):
    extract_provider_metrics(intake_of(TABLE), server, run_of(0))
    return publish(run_of(0), TABLE)


def last(metric):
    """Return the sum of a kept metric's newest samples over its series; None: it has none."""
    found = rows(TABLE, "metric, sampled_at, value")
    end = max(row[1] for row in found)
    values = [row[2] for row in found if row[:2] == (metric, end)]
    return sum(values) if values else None


KEPT = {
    "vllm": (
        "vllm-v0-metrics.txt",
        {
            "llm_provider_up": 1,
            "llm_requests_total": 1,
            "llm_request_errors_total": None,
            "llm_tokens_total": 12,
            "llm_request_duration_seconds_count": 1,
            "llm_request_duration_seconds_sum": pytest.approx(0.5034303665161133),
        },
        {("vllm", "facebook/opt-125m")},
    ),
    "nim": (
        "nim-metrics.txt",
        {
            "llm_provider_up": 1,
            "llm_requests_total": 5,
            "llm_request_errors_total": 0,
            "llm_tokens_total": 283,
            "llm_request_duration_seconds_count": 5,
            "llm_request_duration_seconds_sum": pytest.approx(2.4688401222229004),
        },
        None,
    ),
    "litellm-metrics": (
        "litellm-metrics.txt",
        {
            "llm_provider_up": 1,
            "llm_requests_total": 7,
            "llm_request_errors_total": 7,
            "llm_tokens_total": 0,
            "llm_request_duration_seconds_count": 0,
        },
        None,
    ),
}

ENGINE_V1 = "vllm-v1-metrics-llmprobe.txt"
EXPOSITIONS = {ENGINE_V1, *(file for file, _, _ in KEPT.values())}


@pytest.mark.parametrize("profile", KEPT)
def test_what_a_platform_counts_is_kept(profile, choose, tmp_path, traces_folder):
    file, expected, names = KEPT[profile]
    choose(profile)
    text = (traces_folder / "prometheus-llm" / file).read_text()
    with served(text, tmp_path) as server:
        published = ingest(server)
    assert published.rows_refused == 0
    assert {metric: last(metric) for metric in expected} == expected
    if names:
        assert set(rows(TABLE, "provider_id, model_id")) == names
    assert "None" not in {name for row in rows(TABLE, "provider_id, model_id") for name in row}


def test_engine_v1_counts_each_model(choose, tmp_path, traces_folder):
    """Some of its series have no label, and 21 models count their successes and failures."""
    choose("vllm")
    text = (traces_folder / "prometheus-llm" / ENGINE_V1).read_text()
    names = r"vllm:(request_success_total|request_failure_total)\{.*\} (\S+)"
    total = sum(float(value) for _, value in re.findall(names, text))
    with served(text, tmp_path) as server:
        ingest(server)
    assert last("llm_requests_total") == total
    assert last("llm_tokens_total") > 0
    assert len(set(rows(TABLE, "model_id"))) == 22


def test_opentelemetrys_histograms_give_calls_errors_and_tokens(choose, tmp_path):
    choose("otel-metrics")
    with served(OTEL, tmp_path) as server:
        ingest(server)
    assert {name: last(name) for name in metric_map().metrics} == {
        "llm_requests_total": 5,
        "llm_request_errors_total": 1,
        "llm_tokens_total": 130,
        "llm_request_duration_seconds_bucket": 3,
        "llm_request_duration_seconds_sum": 8.5,
        "llm_request_duration_seconds_count": 5,
    }
    assert set(rows(TABLE, "provider_id, model_id")) == {("openai", "m"), ("aws", None)}


def test_a_server_that_is_down_is_told_although_it_tells_nothing(choose, tmp_path):
    """Its own series end, and Prometheus alone knows that it does not answer."""
    choose("vllm")
    outage = int(START.timestamp()) + 1800
    text = 'vllm:num_requests_running{model_name="m"} 0.0'
    with served(text, tmp_path, is_up=lambda moment: moment < outage) as server:
        ingest(server)
        assert reach(server) is None
    ups = [value for metric, value in rows(TABLE, "metric, value") if metric == "llm_provider_up"]
    assert (len(ups), sum(ups)) == (60, 30)


@pytest.mark.parametrize(("state", "up"), [(0, 1), (1, 1), (2, 0)])
def test_a_deployment_is_down_when_all_its_calls_fail(choose, tmp_path, state, up):
    choose("litellm-metrics")
    text = f'litellm_deployment_state{{api_provider="openai",litellm_model_name="m"}} {state}.0'
    with served(text, tmp_path) as server:
        ingest(server)
    assert set(rows(TABLE, "metric, provider_id, model_id, value")) == {
        ("llm_provider_up", "openai", "m", float(up))
    }
