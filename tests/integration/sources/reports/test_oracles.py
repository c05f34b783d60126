"""Real reports of garak, promptfoo, inspect and AVID: rows and rates are what each declares."""

import json
import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from include.chimera.sources.reports.evaluations import (
    Evaluation,
    FileFault,
    Found,
    RefusedRecord,
    ReportOrigin,
)
from include.chimera.sources.reports.formats import read_report

NOT_COUNTED = {
    "qual_review_mixed.report.jsonl": "unfinished_run",
    "resume_test_mixed.report.jsonl": "unfinished_run",
    "2024-08-29T15-11-18+00-00_popularity_5EAmX6wjMFqea6WY7XHzZp.json": "failed_run",
    "2025-05-12T20-28-13-04-00_no-samples.json": "cancelled_run",
    "2025-05-12T20-28-13-04-00_popularity.json": "cancelled_run",
    "log_invalid.txt": "malformed_report",
    "log_version_3.txt": "unknown_version",
}


def _read(path: Path) -> list[Found]:
    origin = ReportOrigin(path.name, datetime(2027, 1, 1, tzinfo=UTC), ZoneInfo("UTC"))
    with path.open("rb") as file:
        return list(read_report(file, origin))


def _rows(found: list[Found]) -> list[Evaluation]:
    return [item for item in found if isinstance(item, Evaluation)]


@pytest.fixture
def declared(traces_folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the tool itself says of each of its files."""
    tool = request.node.name.split("_")[1]
    found: dict[str, Any] = json.loads((traces_folder / tool / "declared.json").read_text())
    return found


def test_garak_counts_are_those_of_its_evals_or_attempts(
    traces_folder: Path, declared: dict[str, Any]
) -> None:
    """Where garak wrote no eval entry, those of its attempts; nothing is refused."""
    for name, says in declared.items():
        found = _read(traces_folder / "garak" / name)
        rows = {f"{row.technique} / {row.judge}": row for row in _rows(found)}
        assert not [item for item in found if isinstance(item, RefusedRecord)]
        for entry in says["evals"]:
            row = rows[f"{entry['probe']} / {entry['detector']}"]
            assert row.passes == entry["passed"]
            assert row.undetermined == entry.get("nones")
            if "fails" in entry:
                assert (row.successes, row.iterations) == (entry["fails"], entry["total_processed"])
        if not says["evals"]:
            counted = says["recount_status_2"]
            assert {
                pair: {
                    "evaluated": (row.successes or 0) + (row.passes or 0),
                    "hits_at_0.5": row.successes,
                    "nones": row.undetermined,
                }
                for pair, row in rows.items()
            } == counted
        for digest in says.get("digest_scores", {}).values():
            for pair, score in digest.items():
                if pair != "_summary_score":
                    row = rows[pair]
                    assert (row.passes or 0) / (row.iterations or 0) == score


def test_avid_counts_and_metrics_are_those_of_the_reports(
    traces_folder: Path, declared: dict[str, Any]
) -> None:
    """Passed of all evaluated, by probe and detector; each metric with its value."""
    for name, says in declared.items():
        found = _read(traces_folder / "avid" / name)
        rows = _rows(found)
        assert len(found) == len(rows)
        if "rows" in says:
            assert len(rows) == says["rows"]
            assert len({row.technique for row in rows}) == says["probes"]
            passed, total = (
                sum(getattr(row, key) for row in rows) for key in ("passes", "iterations")
            )
            assert (passed, total) == (says["passed"], says["total_evaluated"])
            successes = sum(row.successes or 0 for row in rows)
            assert successes / total == pytest.approx(says["attack_success_rate"])
        else:
            values = Counter(
                (row.model_id, row.technique, row.judge, row.score) for row in rows
            ) + Counter(
                (row.model_id, row.technique, row.judge, row.score_stderr)
                for row in rows
                if row.score_stderr is not None
            )
            assert values == Counter(
                (model, task, scorer, value) for model, task, scorer, _, value in says["metrics"]
            )


def test_promptfoo_counts_and_tokens_are_those_of_its_stats(
    traces_folder: Path, declared: dict[str, Any]
) -> None:
    """No failed assertion is an error; no assertion's tokens are the model's."""
    for name, says in declared.items():
        found = _read(traces_folder / "promptfoo" / name)
        rows = _rows(found)
        assert len(found) == len(rows) == says["rows"]
        passed, failed, errors = (
            sum(getattr(row, key) or 0 for row in rows) for key in ("passes", "successes", "errors")
        )
        stats = says["stats"] or {"successes": says["success_true"], "failures": 0}
        assert (passed, failed) == (stats["successes"], stats["failures"])
        assert errors == stats.get("errors", 0)
        tokens = {
            key: sum(getattr(row, f"{key}_tokens") or 0 for row in rows)
            for key in ("prompt", "completion", "cached")
        }
        tokens["total"] = sum(tokens.values())
        assert tokens == {key: says["row_tokenUsage"][key] for key in tokens}
        cost = sum(float(row.cost_usd or 0) for row in rows)
        assert cost == pytest.approx(says["cost"], abs=1e-8)


def test_inspect_scores_and_tokens_are_those_of_its_results(
    traces_folder: Path, declared: dict[str, Any]
) -> None:
    """Accuracy, its error over samples rather than epochs, and the tokens of all samples."""
    for name, says in declared.items():
        if says.get("version") not in (1, 2, 3):
            continue
        rows = _rows(_read(traces_folder / "inspect" / name))
        assert len({row.evaluation_id for row in rows}) == len(rows)
        if says["samples"]:
            assert len(rows) == says["samples"]
        for scorer in says["scores"]:
            scored = [row for row in rows if row.judge == scorer["name"]]
            metrics = scorer["metrics"]
            mean, error = _mean_and_error(scored)
            assert mean == pytest.approx(metrics.get("accuracy", metrics.get("mean")))
            if "stderr" in metrics:
                assert error == pytest.approx(metrics["stderr"])
        usage: dict[str, dict[str, int]] = says["usage"]
        for key, theirs in (("prompt", "input"), ("completion", "output")):
            tokens = sum(getattr(row, f"{key}_tokens") or 0 for row in rows)
            assert tokens == sum(each[f"{theirs}_tokens"] for each in usage.values())


def _mean_and_error(rows: list[Evaluation]) -> tuple[float, float]:
    """Return the mean score and its standard error over samples, each the mean of its epochs."""
    if len(rows) == 1 and rows[0].score_stderr is not None:
        return rows[0].score or 0.0, rows[0].score_stderr
    samples: dict[str | None, list[float]] = {}
    for row in rows:
        samples.setdefault(row.behaviour_id, []).append(row.score or 0.0)
    means = [math.fsum(each) / len(each) for each in samples.values()]
    mean = math.fsum(means) / len(means)
    squares = math.fsum((each - mean) ** 2 for each in means)
    count = len(means)
    return mean, math.sqrt(squares / (count - 1) / count) if count > 1 else 0.0


@pytest.mark.parametrize("tool", ["garak", "avid", "promptfoo", "inspect"])
def test_each_file_is_counted_or_told_with_its_reason(traces_folder: Path, tool: str) -> None:
    """Only runs that did not end, and files that no tool can read, are not counted."""
    for path in sorted((traces_folder / tool).iterdir()):
        if path.name.startswith(("LICENSE", "SOURCES", "declared")):
            continue
        faults = [item for item in _read(path) if isinstance(item, FileFault)]
        assert [fault.reason for fault in faults] == [
            reason for reason in [NOT_COUNTED.get(path.name)] if reason
        ]
