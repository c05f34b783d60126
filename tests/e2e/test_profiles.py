"""Other platforms than the sample application: each by its settings alone, on a real scheduler."""

import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.e2e.conftest import CommandResult, run_command
from tests.e2e.test_real_traces import query
from tests.insight import Reader, specs
from tests.versions import Versions

pytestmark = [pytest.mark.e2e, pytest.mark.long]
AGO = 2 * 3600  # seconds: in any case before the last full hour began to be the current one


def _written_before(files: Iterable[Path], folder: Path) -> str:
    """Copy files into a folder, as if they were written some hours ago; return its path."""
    folder.mkdir()
    then = time.time() - AGO
    for file in files:
        copy = folder / file.name
        copy.write_bytes(file.read_bytes())
        os.utime(copy, (then, then))
    return str(folder)


def test_reports_and_spans_become_gold_with_their_tools_own_counts(
    tmp_path: Path, traces_folder: Path, written: Versions
) -> None:
    """The second run has nothing new, and changes nothing."""
    garak, spans = traces_folder / "garak", traces_folder / "otel-genai"
    variables = {
        "CHIMERA_PROFILE": "reports,otel",
        "CHIMERA_EVALUATIONS_ROOT": _written_before(garak.glob("*.jsonl"), tmp_path / "reports"),
        "CHIMERA_SPANS_ROOT": _written_before(
            [spans / "tempo-export-batches.json"], tmp_path / "spans"
        ),
    }
    result = run_command(tmp_path / "state", hours=1, **variables)
    assert result.code == 0, result.output
    written.add(result.lake)
    assert "files that were written after" in result.output
    told = "select technique, judge, pass_count, success_count from {fct_evaluations}"
    rows = sorted(query(result.lake, told))
    assert set(_evals_of(garak)) <= set(rows)
    calls = "select count(*), sum(prompt_tokens), sum(completion_tokens) from {fct_generations}"
    assert query(result.lake, calls) == [(2, 4_648, 129)]
    compared = (
        "select sum(trial_count), sum(successful_trial_count) from {agg_technique_by_framework}"
    )
    assert query(result.lake, compared) == [
        (sum(row[2] + row[3] for row in rows), sum(row[3] for row in rows))
    ]

    page, shown = _insight(result)
    assert _untold(page) == {"availability"}
    assert sum(int(row[3].replace(",", "")) for row in shown.rows("attacks")) == sum(
        row[2] + row[3] for row in rows
    )
    assert [row[1:3] for row in shown.rows("tokens")] == [("openai", "4,648")]

    again = run_command(tmp_path / "state", hours=1, **variables)
    assert again.code == 0, again.output
    assert sorted(query(again.lake, told)) == rows


def _insight(result: CommandResult) -> tuple[str, Reader]:
    """Return the page that a run left, each of whose charts has something to draw."""
    page = (result.state / "reports" / "insight.html").read_text()
    assert specs(page)
    assert all(spec["data"]["values"] for spec in specs(page))
    return page, Reader(page)


def _untold(page: str) -> set[str]:
    """Return the topics of which the page says that no profile reads them."""
    topics = re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.DOTALL)
    return {name for name, text in topics if "no chosen profile" in text}


def _evals_of(garak: Path) -> list[tuple[str, str, int, int]]:
    """Return probe, detector and counts of each eval entry of the runs that ended."""
    declared = json.loads((garak / "declared.json").read_text())
    return [
        (entry["probe"], entry["detector"], entry["passed"], total - entry["passed"])
        for says in declared.values()
        if {"completion", "digest"} & says["entries"].keys()
        for entry in says["evals"]
        for total in [entry.get("total_evaluated", entry.get("total"))]  # the second up to 0.13
    ]


def test_litellms_database_becomes_gold(tmp_path: Path, written: Versions) -> None:
    """The sample's calls in LiteLLM's own tables: each successful one has its tokens and cost.

    The sample is quiet at night: its quietest hour has 550 calls of 1,000.
    """
    result = run_command(
        tmp_path / "state", hours=1, CHIMERA_PROFILE="litellm", CHIMERA_ROWS_PER_HOUR="1000"
    )
    assert result.code == 0, result.output
    written.add(result.lake)
    (found,) = query(
        result.lake,
        "select count(*) > 500, count(distinct generation_id) = count(*), "
        "bool_and(cost_usd is not null and prompt_tokens > 0) filter (where status = 'succeeded'), "
        "count(*) filter (where status = 'failed' and error_code is not null) > 0 "
        "from {fct_generations}",
    )
    assert found == (True, True, True, True)
    page, shown = _insight(result)
    assert _untold(page) == {"availability", "attacks", "attacks_by_week", "attack_changes"}
    costs = query(result.lake, "select count(*), sum(cost_usd) from {fct_generations}")
    total = shown.rows("cost_of_week")[0]
    assert [(int(total[3].replace(",", "")), total[2])] == [
        (calls, f"{cost:,.2f}") for calls, cost in costs
    ]
