"""Two hours of real traces, compared with what their publishers say and with the raw files.

The expectations come from the files by plain Python, another way than the pipeline's.
"""

import csv
import gzip
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import quantiles

import duckdb
import pytest

from include.chimera.lake.store.duckdb_sessions import prepare
from tests.e2e.conftest import CommandResult

pytestmark = pytest.mark.e2e

COMBINED = re.compile(r'^\S+ \S+ \S+ \[[^]]+\] "[^"]*" \d{3} (?:\d+|-) "[^"]*" "[^"]*"$')


def query(lake: Path, sql: str) -> list[tuple]:
    """Run a query in which `{name}` stands for the scan of a gold or ops table."""
    with duckdb.connect() as connection:
        prepare(connection)
        scans = {
            log.parent.name: f"delta_scan('{log.parent}')"
            for log in lake.glob("[!_]*/*/_delta_log")
        }
        return connection.execute(sql.format_map(scans)).fetchall()


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a CSV file whole."""
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="session")
def azure(traces_folder: Path) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Return the token counts of the Azure traces by model and hour of day."""
    rows = defaultdict(list)
    for name in ("code", "conv"):
        path = traces_folder / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.csv"
        for row in rows_of(path):
            tokens = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            rows[f"azure/{name}", int(row["TIMESTAMP"][11:13])].append(tokens)
    return rows


def test_each_azure_row_is_there_once_with_its_tokens(
    replayed_hours: CommandResult, azure: dict[tuple[str, int], list[tuple[int, int]]]
) -> None:
    """23,323 rows in the first hour, 4,862 in the second, and the token sums of the files."""
    found = query(
        replayed_hours.lake,
        "select model_id, _window_hour, count(*), count(distinct generation_id), "
        "sum(prompt_tokens + completion_tokens) "
        "from {fct_generations} where provider_id = 'azure' group by all order by all",
    )
    expected = [
        (model, len(rows), len(rows), sum(sum(tokens) for tokens in rows))
        for (model, _), rows in sorted(azure.items())
    ]
    assert [(model, *counts) for model, _, *counts in found] == expected
    by_hour = defaultdict(int)
    for _, hour, count, *_ in found:
        by_hour[hour] += count
    assert [by_hour[hour] for hour in sorted(by_hour)] == [23_323, 4_862]


def test_offsets_inside_the_hour_are_kept(
    replayed_hours: CommandResult, traces_folder: Path
) -> None:
    """The first and the last second of a trace's hour are those of the file."""
    path = traces_folder / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"
    stamps = sorted(row["TIMESTAMP"] for row in rows_of(path))
    ((first, last),) = query(
        replayed_hours.lake,
        "select strftime(min(created_at), '%M:%S.%f'), strftime(max(created_at), '%M:%S.%f') "
        "from {fct_generations} where model_id = 'azure/conv'",
    )
    assert (first, last) == (stamps[0][14:26], stamps[-1][14:26])


def test_latency_percentiles_equal_upstreams_summaries(
    replayed_hours: CommandResult, traces_folder: Path
) -> None:
    """llmperf publishes its own quantiles: ours are the same to nine digits."""
    found = query(
        replayed_hours.lake,
        "select provider_id, model_id, p50_latency_ms, p95_latency_ms, p99_latency_ms "
        "from {agg_provider_hourly} where p50_latency_ms is not null",
    )
    ours = {
        (provider, model.rsplit("-", 1)[1]): percentiles for provider, model, *percentiles in found
    }
    assert len(ours) == 10
    for path in sorted((traces_folder / "llmperf" / "summary").glob("*.json")):
        summary = json.loads(path.read_text())
        theirs = [
            summary[f"results_end_to_end_latency_s_quantiles_p{share}"] * 1000
            for share in (50, 95, 99)
        ]
        assert ours[tuple(path.stem.split("_"))] == pytest.approx(theirs, rel=1e-9), path.stem


def test_first_token_percentiles_equal_the_raw_rows(
    replayed_hours: CommandResult, traces_folder: Path
) -> None:
    """The median of time to first token over the rows without error, by the standard library."""
    found = query(
        replayed_hours.lake,
        "select provider_id, model_id, p50_ttft_ms from {agg_provider_hourly} "
        "where p50_ttft_ms is not null",
    )
    ours = {(provider, model.rsplit("-", 1)[1]): value for provider, model, value in found}
    for path in sorted((traces_folder / "llmperf" / "individual").glob("*.json")):
        rows = [row for row in json.loads(path.read_text()) if row["error_code"] is None]
        middle = quantiles([row["ttft_s"] * 1000 for row in rows], n=2, method="inclusive")[0]
        assert ours[tuple(path.stem.split("_"))] == pytest.approx(middle, rel=1e-9), path.stem


def test_attack_success_rates_equal_the_declared_ones(
    replayed_hours: CommandResult, traces_folder: Path
) -> None:
    """JailbreakBench declares a rate per artifact: all 18 are ours."""
    declared = json.loads((traces_folder / "jailbreakbench" / "declared.json").read_text())
    scores = traces_folder / "jailbreakbench" / "scores.csv"
    artifacts = {row["source"]: (row["technique"], row["model"]) for row in rows_of(scores)}
    found = query(
        replayed_hours.lake,
        "select technique, model_id, evaluation_count, attack_success_ratio, "
        "attack_success_lower_ratio, attack_success_upper_ratio from {agg_technique_effectiveness}",
    )
    ours = {(technique, model.split("/")[1]): rest for technique, model, *rest in found}
    assert len(declared) == len(ours) == 18
    for artifact in declared:
        count, ratio, lower, upper = ours[artifacts[artifact["file"]]]
        assert (count, ratio) == (artifact["rows"], pytest.approx(artifact["attack_success_rate"]))
        assert lower <= ratio <= upper


def test_access_log_is_parsed_but_for_its_malformed_line(
    replayed_hours: CommandResult, traces_folder: Path
) -> None:
    """9,999 lines are parsed; the refused one is the line that no strict pattern matches."""
    with gzip.open(traces_folder / "access-logs" / "apache_combined.log.gz", "rt") as file:
        lines = file.read().splitlines()
    (malformed,) = [line for line in lines if not COMBINED.match(line)]
    assert query(replayed_hours.lake, "select count(*) from {fct_api_requests}") == [(9_999,)]
    letters = query(
        replayed_hours.lake, "select source, reason, payload, coordinates from {dead_letters}"
    )
    ((source, reason, payload, coordinates),) = letters
    assert (source, reason) == ("bronze.api_logs", "malformed_line")
    assert payload.decode() == malformed
    assert set(json.loads(coordinates)) == {"file", "offset", "bytes"}
