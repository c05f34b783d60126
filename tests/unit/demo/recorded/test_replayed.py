"""Replayed traces match published figures: counts, sums, percentiles, success rates."""

import json
import re
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc
import pytest

from include.chimera.demo.recorded.replayed import ReplayedFeed
from include.chimera.errors import ConfigurationError
from include.chimera.window import HOUR, Window

ANCHOR = datetime(2026, 1, 5, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def feed(traces_folder):
    return ReplayedFeed(traces_folder, ANCHOR)


@pytest.fixture(scope="module")
def hours(feed):
    return [feed.hour(Window.of_hour(ANCHOR + offset * HOUR)) for offset in range(3)]


def token_sums(rows):
    return tuple(pc.sum(rows[f"{kind}_tokens"]).as_py() for kind in ("prompt", "completion"))


def test_azure_hours_become_two_consecutive_hours(hours):
    providers = [hour.tables["generations"]["provider_id"] for hour in hours]
    counts = [pc.sum(pc.equal(provider, "azure")).as_py() for provider in providers]
    assert counts == [23_323, 4_862, None]


@pytest.mark.parametrize(
    ("model_id", "sums"),
    [("azure/code", (18_059_974, 245_896)), ("azure/conv", (22_361_870, 4_088_665))],
)
def test_azure_token_sums_are_the_published_ones(hours, model_id, sums):
    per_hour = [
        token_sums(
            hour.tables["generations"].filter(
                pc.equal(hour.tables["generations"]["model_id"], model_id)
            )
        )
        for hour in hours[:2]
    ]
    assert tuple(map(sum, zip(*per_hour, strict=True))) == sums


def test_azure_rows_keep_their_offset_to_the_microsecond(hours):
    rows = hours[0].tables["generations"]
    first = pc.min(rows.filter(pc.equal(rows["model_id"], "azure/code"))["created_at"]).as_py()
    assert first == datetime(2026, 1, 5, 8, 17, 3, 979960, tzinfo=UTC)


def test_llmperf_percentiles_equal_upstreams_summaries(hours, traces_folder):
    rows = hours[0].tables["generations"]
    summaries = sorted((traces_folder / "llmperf" / "summary").glob("*.json"))
    assert len(summaries) == 10
    for path in summaries:
        provider, _, size = path.stem.partition("_")
        of_model = pc.equal(rows["model_id"], f"{provider}/llama-2-{size}")
        assert pc.sum(of_model).as_py() == 150
        succeeded = rows.filter(pc.and_(of_model, pc.equal(rows["status"], "succeeded")))
        latency = succeeded["latency_ms"].to_numpy() / 1000
        summary = json.loads(path.read_text())
        for percent in (50, 95, 99):
            assert np.percentile(latency, percent) == pytest.approx(
                summary[f"results_end_to_end_latency_s_quantiles_p{percent}"], rel=1e-9
            )


def test_failed_llmperf_rows_have_a_code_and_no_made_up_latency(hours):
    rows = hours[0].tables["generations"]
    failed = rows.filter(pc.equal(rows["status"], "failed"))
    assert failed.num_rows == 262
    assert failed["error_code"].unique().to_pylist() == ["429"]
    assert failed["latency_ms"].null_count == failed.num_rows


def test_attack_success_rates_equal_the_declared_ones(hours, traces_folder):
    outcomes = {}
    for hour in hours:
        for row in hour.tables["evaluations"].to_pylist():
            key = (row["technique"], row["model_id"].partition("/")[2])
            outcomes.setdefault(key, []).append(row["successes"] > 0)
    declared = json.loads((traces_folder / "jailbreakbench" / "declared.json").read_text())
    assert len(outcomes) == len(declared) == 18
    for artifact in declared:
        method = "adaptive_random_search" if "random_search" in artifact["file"] else None
        found = outcomes[method or artifact["method"], artifact["model"]]
        assert len(found) == artifact["rows"]
        assert sum(found) / len(found) == pytest.approx(artifact["attack_success_rate"])


def test_access_log_has_one_line_that_is_refused_and_stands_as_it_was(hours):
    lines = [line for hour in hours for line in hour.log_lines]
    malformed = [line for line in lines if not line.startswith(b"{")]
    assert (len(lines), len(malformed)) == (10_000, 1)
    assert malformed[0].startswith(b"46.118.127.106 - - [20/May/2015:12:05:17 +0000]")
    assert not malformed[0].endswith(b'"')
    entries = [json.loads(line) for line in lines if line.startswith(b"{")]
    assert all(re.fullmatch(r"2026-01-05T0[89]:.{5}\.\d{6}Z", one["timestamp"]) for one in entries)
    assert [len(hour.log_lines) for hour in hours] == [5_000, 5_000, 0]


def test_up_samples_keep_their_number_order_and_outages(hours):
    zeros = Counter()
    samples = 0
    for hour in hours[:2]:
        for metric in hour.families[0].metrics:
            ((_, provider),) = metric[0].labels
            zeros[provider] += int((metric[0].values == 0).sum())
            samples += len(metric[0].values)
    assert samples == 5 * 4 * 1080 - 1 + 4 * 4 * 360
    assert len(zeros) == 9
    assert {provider[-1]: count for provider, count in zeros.items() if count} == {
        "0": 1440,
        "1": 62,
        "2": 8,
    }


def test_each_model_that_rows_mention_is_listed_once(feed, hours):
    models = feed.models()
    ids = models["model_id"].to_pylist()
    assert len(set(ids)) == len(ids) > 1442
    for hour in hours:
        for table in hour.tables.values():
            assert set(table["model_id"].to_pylist()) <= set(ids)
    by_id = {row["model_id"]: row for row in models.to_pylist()}
    assert by_id["anthropic/claude-2"]["input_usd_per_mtok"] == 8.0
    assert by_id["anthropic/claude-sonnet-4-5"]["output_usd_per_mtok"] == 15.0  # tiered
    assert by_id["azure/conv"]["input_usd_per_mtok"] is None


def test_missing_files_are_named_with_their_folder(tmp_path):
    with pytest.raises(ConfigurationError, match=r"scores\.csv") as caught:
        ReplayedFeed(tmp_path, ANCHOR)
    assert str(tmp_path) in caught.value.where
