"""The demo's server answers range queries as Prometheus does, on a real socket."""

import os

import httpx
import numpy as np
import pytest

from include.chimera.demo.metrics_server import MetricsServer
from include.chimera.demo.openmetrics import Family, Series, write_families
from include.chimera.window import parse_hour
from tests.serving import served

HOUR = "20260105T08"
START = int(parse_hour(HOUR).timestamp())


def exposition(samples, provider="boreas"):
    times = np.array([moment * 1000 for moment in samples], np.int64)
    values = np.array(list(samples.values()), np.float64)
    one = Series("llm_provider_up", (("provider", provider),), times, values)
    other = Series("llm_provider_up", (("provider", "altair"),), times, values + 1)
    return write_families([Family("llm_provider_up", "gauge", "Up.", [[one], [other]])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / f"{HOUR}.om").write_bytes(exposition({START: 1, START + 30: 0, START + 60: 1}))
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with served(MetricsServer(folder, 0)) as url, httpx.Client(base_url=url) as client:
        yield client


def ask(client, **changes):
    parameters = {"query": "llm_provider_up", "start": START, "end": START + 60}
    return client.get("/api/v1/query_range", params={**parameters, "step": 30, **changes})


def values(answer, provider="boreas"):
    assert answer.status_code == 200
    series = {each["metric"]["provider"]: each for each in answer.json()["data"]["result"]}
    return series[provider]["values"]


def test_both_ends_are_included(client):
    expected = [[START, "1"], [START + 30, "0"], [START + 60, "1"]]
    assert values(ask(client)) == expected


def test_all_series_of_a_metric_are_answered(client):
    answer = ask(client).json()
    metrics = [series["metric"] for series in answer["data"]["result"]]
    assert metrics == [
        {"__name__": "llm_provider_up", "provider": "altair"},
        {"__name__": "llm_provider_up", "provider": "boreas"},
    ]
    assert answer["status"] == "success"
    assert answer["data"]["resultType"] == "matrix"
    assert ask(client, query="llm_requests_total").json()["data"]["result"] == []


def test_a_step_between_samples_takes_the_newest_before_it(client):
    assert values(ask(client, start=START + 45, end=START + 45)) == [[START + 45, "0"]]


def test_a_sample_older_than_five_minutes_is_stale(client):
    answer = values(ask(client, start=START + 300, end=START + 420, step=60))
    assert [moment - START for moment, _ in answer] == [300, 360]


def test_nothing_before_the_first_sample(client):
    assert ask(client, start=START - 90, end=START - 30).json()["data"]["result"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"query": "rate(llm_provider_up[5m])"},
        {"query": ""},
        {"query": 'llm_provider_up{provider="boreas"}'},
        {"start": "yesterday"},
        {"start": "nan"},
        {"end": START - 1},
        {"step": 0},
        {"step": "often"},
        {"end": START + 11_001, "step": 1},
    ],
)
def test_bad_parameters_are_refused(client, changes):
    answer = ask(client, **changes)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert answer.json()["errorType"] == "bad_data"


def test_eleven_thousand_steps_are_allowed(client):
    assert ask(client, end=START + 11_000, step=1).status_code == 200


def test_new_and_changed_files_are_noticed(client, folder):
    later = folder / "20260105T10.om"
    moment = START + 7200
    later.write_bytes(exposition({moment: 1}))
    assert values(ask(client, start=moment, end=moment)) == [[moment, "1"]]
    later.write_bytes(exposition({moment: 0}))
    os.utime(later, ns=(1, 1))
    assert values(ask(client, start=moment, end=moment)) == [[moment, "0"]]


def test_a_query_spans_files(client, folder):
    (folder / "20260105T12.om").write_bytes(exposition({START + 14_400 + 3570: 5}))
    (folder / "20260105T13.om").write_bytes(exposition({START + 18_000: 6}))
    answer = values(ask(client, start=START + 17_970, end=START + 18_000))
    assert answer == [[START + 17_970, "5"], [START + 18_000, "6"]]


def test_a_file_that_is_cut_off_is_a_server_error_and_another_name_is_ignored(client, folder):
    (folder / "20260106T08.om").write_text("llm_provider_up 1 1")
    (folder / "notes.om").write_text("nothing")
    answer = ask(client, start=START + 86_400, end=START + 86_400)
    assert (answer.status_code, answer.json()["errorType"]) == (500, "internal")
    assert values(ask(client))


def test_another_question_is_refused(client):
    asked = {"query": "llm_provider_up", "time": START}
    assert client.get("/api/v1/query", params=asked).json()["errorType"] == "bad_data"
    assert client.get("/api/v1/elsewhere").status_code == 404
