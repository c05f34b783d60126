"""Reports in AVID's form: the score is the percentage passed, whatever the method is called."""

from datetime import UTC, datetime
from pathlib import Path

from include.chimera.sources.reports.evaluations import RefusedRecord
from tests.reading import avid_report, evaluations, found, lines


def test_avid_score_is_the_percentage_passed(tmp_path: Path) -> None:
    """The method is called "Count failed", yet 70 means that seven of ten passed."""
    rows = [{"detector": "d", "passed": 7, "total_evaluated": 10, "score": 70.0}]
    (row,) = evaluations(found(tmp_path, lines([avid_report(rows)])))
    assert (row.iterations, row.successes, row.passes) == (10, 3, 7)
    assert (row.technique, row.framework) == ("dan.Dan", "garak")
    assert row.created_at == datetime(2026, 2, 16, tzinfo=UTC)


def test_avid_score_that_is_another_percentage_is_refused(tmp_path: Path) -> None:
    """If score ever means the failed ones, no row is turned round in silence."""
    rows = [{"detector": "d", "passed": 7, "total_evaluated": 10, "score": 30.0}]
    (refused,) = found(tmp_path, lines([avid_report(rows)]))
    assert isinstance(refused, RefusedRecord)
    assert refused.reason == "counts_contradict_each_other"


def test_avid_metrics_of_inspect_are_scores_with_their_error(tmp_path: Path) -> None:
    """A benchmark's report gives scores, not counts: none are made up."""
    metrics = [
        {"scorer": "choice", "metrics": "accuracy", "value": 0.9},
        {"scorer": "choice", "metrics": "stderr", "value": 0.01},
    ]
    sentence = {"value": "Evaluation of m on the bbq benchmark using Inspect Evals"}
    report = avid_report([], metrics=metrics, problemtype={"description": sentence})
    (row,) = evaluations(found(tmp_path, lines([report])))
    assert (row.technique, row.judge, row.score, row.score_stderr) == ("bbq", "choice", 0.9, 0.01)
    assert (row.framework, row.iterations, row.successes) == ("inspect", None, None)
