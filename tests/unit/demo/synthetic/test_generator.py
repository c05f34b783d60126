"""The generator makes each hour from its label alone, in realistic shapes."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow.compute as pc
import pytest

from include.chimera.demo.openmetrics import read_series, write_families
from include.chimera.demo.synthetic.generator import GeneratedFeed
from include.chimera.demo.synthetic.telemetry import hour_families
from include.chimera.profiles.chosen import SAMPLE, sources
from include.chimera.window import HOUR, Window, hour_label

ROWS = 1000
START = datetime(2026, 1, 5, 15, tzinfo=UTC)


def hour_at(offset):
    return Window.of_hour(START + offset * HOUR)


@pytest.fixture(scope="module")
def feed():
    return GeneratedFeed(ROWS)


@pytest.fixture(scope="module")
def data(feed):
    return feed.hour(hour_at(0))


def parsed(lines):
    good, bad = [], []
    for line in lines:
        try:
            entry = json.loads(line)
            int(entry["status_code"])
        except ValueError:
            bad.append(line)
        else:
            good.append(entry)
    return good, bad


@pytest.mark.parametrize("intake", sources(SAMPLE)["app_db"], ids=lambda each: each.contract.name)
def test_each_table_of_the_application_has_rows(feed, data, intake):
    """A table left empty would look good in each run, and prove nothing."""
    contract = intake.contract
    rows = {**data.tables, "models": feed.models()}[contract.table]
    assert rows.column_names == contract.common_columns
    assert rows.num_rows > 0


def test_hour_is_the_same_whatever_was_asked_before(data):
    other = GeneratedFeed(ROWS)
    other.hour(hour_at(5))
    other.hour(hour_at(-1))
    again = other.hour(hour_at(0))
    assert again.tables == data.tables
    assert again.log_lines == data.log_lines
    assert write_families(again.families) == write_families(data.families)


def test_hours_share_no_key(feed, data):
    following = feed.hour(hour_at(1))
    for table, key in (("generations", "generation_id"), ("evaluations", "evaluation_id")):
        keys = [
            *data.tables[table][key].to_pylist(),
            *following.tables[table][key].to_pylist(),
        ]
        assert len(set(keys)) == len(keys)


def test_row_count_follows_the_daily_rhythm(feed):
    counts = [feed.hour(hour_at(offset)).tables["generations"].num_rows for offset in (0, 6, 12)]
    assert counts[0] > ROWS > counts[2]
    assert counts[0] > counts[1] > counts[2]


def test_generations_show_several_providers_models_and_outcomes(data):
    rows = data.tables["generations"]
    assert len(rows["provider_id"].unique()) >= 5
    assert len(rows["model_id"].unique()) >= 12
    assert set(rows["status"].to_pylist()) == {"succeeded", "failed", "filtered"}
    failed = rows.filter(pc.equal(rows["status"], "failed"))
    assert failed["error_code"].null_count == 0
    assert failed["ttft_ms"].null_count == failed.num_rows
    assert 0 < rows["techniques"].null_count < rows.num_rows


def test_generations_stand_as_known_at_the_end_of_their_hour(data):
    rows = data.tables["generations"]
    for column in ("created_at", "updated_at"):
        assert pc.min(rows[column]).as_py() >= hour_at(0).start
        assert pc.max(rows[column]).as_py() < hour_at(0).end


def test_late_changes_come_within_ninety_minutes_and_bring_the_cost(feed, data):
    late = feed.settlements(hour_at(0))
    first = {row["generation_id"]: row for row in data.tables["generations"].to_pylist()}
    assert late.num_rows > 0
    for row in late.to_pylist():
        assert row["updated_at"] >= hour_at(0).end
        assert timedelta(0) < row["updated_at"] - row["created_at"] <= timedelta(minutes=90)
        assert first[row["generation_id"]]["cost_usd"] is None
        assert first[row["generation_id"]]["created_at"] == row["created_at"]
    assert late["cost_usd"].null_count < late.num_rows
    in_hour = sum(row["updated_at"] > row["created_at"] for row in first.values())
    assert 0.02 < (in_hour + late.num_rows) / len(first) < 0.04


def test_each_log_file_has_three_malformed_lines_and_some_of_the_hour_before(data):
    good, bad = parsed(data.log_lines)
    assert len(bad) == 3
    label = hour_label(START - HOUR)
    late = [entry for entry in good if entry["timestamp"] < f"{START:%Y-%m-%dT%H}"]
    assert 0 < len(late) < 0.03 * len(good)
    assert all(entry["request_id"].startswith(f"req-{label}") for entry in late)


def test_lines_missing_from_their_hour_stand_in_the_next_file(feed, data):
    following, _ = parsed(feed.hour(hour_at(1)).log_lines)
    own, _ = parsed(data.log_lines)
    label = hour_label(START)
    requests = [
        entry["request_id"] for entry in [*own, *following] if f"-{label}-" in entry["request_id"]
    ]
    assert sorted(requests) == sorted(data.tables["generations"]["request_id"].to_pylist())


def test_counters_rise_over_hours_made_apart():
    last = {}
    for offset in (0, 1, 30):
        text = write_families(hour_families(hour_at(offset).start, ROWS)).decode()
        for series in read_series(text):
            if series.name != "llm_provider_up":
                values = [last.get((series.name, series.labels), 0.0), *series.values]
                assert values == sorted(values)
                last[series.name, series.labels] = values[-1]


def test_histogram_is_cumulative_and_ends_in_its_count(data):
    series = {
        (one.name.removeprefix("llm_request_duration_seconds"), dict(one.labels).get("le")): one
        for one in read_series(write_families(data.families).decode())
        if dict(one.labels).get("model") == "boreas/boreas-4"
    }
    buckets = [one for (suffix, _), one in series.items() if suffix == "_bucket"]
    assert len(buckets) > 5
    for lower, upper in pairwise(buckets):
        assert (lower.values <= upper.values).all()
    assert (series["_bucket", "+Inf"].values == series["_count", None].values).all()
