"""Reports in AVID's form, as avidtools makes them of garak's and inspect's: JSON, one a line.

garak's have a table of detectors, whose score is the percentage *passed* although the method is
called "Count failed"; inspect's a list of scorer, metric and value. The probe or benchmark stands
in a sentence alone. A report has a date and no time, and no run but in the name of garak's file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from include.chimera.sources.reports.evaluations import (
    ATTACK,
    BENCHMARK,
    CONTRADICTORY,
    MALFORMED_RECORD,
    Evaluation,
    RefusedRecord,
    count_of,
    identity,
    moment_of,
    name_of,
    number_of,
    status_of,
)
from include.chimera.sources.reports.garak import garak_identity
from include.chimera.sources.stored.lines import decoded, json_lines, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from include.chimera.sources.reports.evaluations import Found, ReportOrigin

_PROBE = re.compile(r"probe `([^`\s]{1,200})`")
_BENCHMARK = re.compile(r"on the (\S{1,200}) benchmark")
_RUN = re.compile(r"(?:^|/)garak\.([0-9a-f-]{36})\.avid\.jsonl")
_STDERR = "stderr"
_TOLERANCE = 1e-6  # of the percentage, which is stated with 15 digits


class _Text(msgspec.Struct):
    value: Any = None


class _Artifact(msgspec.Struct):
    name: Any = None


class _Affects(msgspec.Struct):
    developer: list[Any] | None = None
    deployer: list[Any] | None = None
    artifacts: list[_Artifact] | None = None


class _Problem(msgspec.Struct):
    description: _Text | None = None


class _Row(msgspec.Struct):
    detector: Any = None
    passed: Any = None
    total_evaluated: Any = None
    score: Any = None


class _Table(msgspec.Struct):
    rows: list[_Row] | None = None


class _Metric(msgspec.Struct):
    results: _Table | None = None
    scorer: Any = None
    metrics: Any = None
    value: Any = None


class _Report(msgspec.Struct):
    data_type: Any = None
    affects: _Affects | None = None
    problemtype: _Problem | None = None
    metrics: list[_Metric] | None = None
    reported_date: Any = None


_DECODER = msgspec.json.Decoder(_Report)


def read_avid(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    """Yield the evaluations of a file with one report, or one a line."""
    first = next(json_lines(file), None)
    if first is None or decoded(first.content, _DECODER) is None:  # a report over several lines
        single = decoded(mapped(file), _DECODER)
        if single is not None:
            yield from _evaluations(single, origin, 0, 0)
            return
    for line in json_lines(file):
        report = decoded(line.content, _DECODER) if line.content else None
        if report is None:
            yield RefusedRecord(MALFORMED_RECORD, line.offset, line.length)
        else:
            yield from _evaluations(report, origin, line.offset, line.length)


def _evaluations(
    report: _Report, origin: ReportOrigin, offset: int, length: int
) -> Iterator[Found]:
    text = report.problemtype.description if report.problemtype else None
    sentence = text.value if text and isinstance(text.value, str) else ""
    probe, benchmark = _PROBE.search(sentence), _BENCHMARK.search(sentence)
    refused = RefusedRecord(MALFORMED_RECORD, offset, length)
    if report.data_type != "AVID" or not report.metrics or not (probe or benchmark):
        yield refused
        return
    about = _about(report, origin)
    for metric in report.metrics:
        for row in (metric.results.rows if metric.results else None) or ():
            yield (_garak(row, probe[1], about, origin) if probe else None) or RefusedRecord(
                CONTRADICTORY, offset, length
            )
    scores = [metric for metric in report.metrics if metric.results is None]
    if scores and benchmark:
        yield from _inspect(scores, benchmark[1], about, refused)
    elif scores:
        yield refused


def _about(report: _Report, origin: ReportOrigin) -> dict[str, Any]:
    """Return what all evaluations of a report share."""
    affects = report.affects or _Affects()
    artifact = next((name_of(each.name) for each in affects.artifacts or ()), None)
    makers = [*(affects.deployer or ()), *(affects.developer or ())]
    return {
        "created_at": moment_of(report.reported_date, origin),
        "provider_id": next((name for each in makers if (name := name_of(each))), None),
        "model_id": artifact,
    }


def _garak(row: _Row, probe: str, about: dict[str, Any], origin: ReportOrigin) -> Evaluation | None:
    """Return a detector's evaluation, None if its numbers can't be."""
    detector, passed, total = (
        name_of(row.detector),
        count_of(row.passed),
        count_of(row.total_evaluated),
    )
    if detector is None or passed is None or total is None or passed > total:
        return None
    score = number_of(row.score)
    if score is not None and total and abs(score - 100 * passed / total) > _TOLERANCE:
        return None
    run = _RUN.search(origin.name)
    return Evaluation(
        # garak's own report of the run has the same key: read both, and the run counts once.
        evaluation_id=garak_identity(run[1], probe, detector)
        if run
        else identity("avid", origin.name, about["model_id"], probe, detector),
        framework="garak",
        evaluation_kind=ATTACK,
        technique=probe,
        judge=detector,
        status=status_of(judged=total, errors=None),
        iterations=total,
        successes=total - passed,
        passes=passed,
        **about,
    )


def _inspect(
    metrics: list[_Metric], benchmark: str, about: dict[str, Any], refused: RefusedRecord
) -> Iterator[Found]:
    """Yield an evaluation for each metric of a scorer; its standard error belongs to all of them.

    A benchmark's report says its score alone, not how many samples made it.
    """
    errors = {m.scorer: number_of(m.value) for m in metrics if m.metrics == _STDERR}
    for metric in metrics:
        scorer, name, score = (
            name_of(metric.scorer),
            name_of(metric.metrics),
            number_of(metric.value),
        )
        if scorer is None or name is None:
            yield refused
        elif name != _STDERR:
            overall = name in ("accuracy", "mean", "all")
            yield Evaluation(
                evaluation_id=identity(
                    "avid", about["model_id"], benchmark, scorer, name, about["created_at"].date()
                ),
                framework="inspect",
                evaluation_kind=BENCHMARK,
                technique=benchmark,
                behaviour_id=None if overall else name,
                judge=scorer,
                status="completed" if score is not None else "undetermined",
                score=score,
                score_stderr=errors.get(metric.scorer) if overall else None,
                **about,
            )
