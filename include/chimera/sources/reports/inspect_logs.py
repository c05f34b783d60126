"""Logs of inspect_ai, `.eval` (zip) and JSON, versions 1 to 3.

One evaluation per sample, epoch and scorer; of a log without samples one per scorer, from its
results. A score is a number as inspect itself reckons it: C is 1, P a half, I and N are 0. What is
neither right nor wrong (P, N, other numbers, unscored) is undetermined in the counts, and keeps its
score. Only a log with the status `success` is a whole run.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from include.chimera.sources.reports.evaluations import (
    BENCHMARK,
    CANCELLED,
    FAILED,
    MALFORMED_RECORD,
    MALFORMED_REPORT,
    UNFINISHED,
    UNKNOWN_VERSION,
    Evaluation,
    FileFault,
    RefusedRecord,
    cost_of,
    count_of,
    identity,
    moment_of,
    name_of,
    number_of,
    status_of,
)
from include.chimera.sources.stored.lines import DOCUMENT_TOO_LARGE, decoded, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from include.chimera.sources.reports.evaluations import Found, ReportOrigin

_VERSIONS = (1, 2, 3)
_ENDINGS = {"started": UNFINISHED, "cancelled": CANCELLED, "error": FAILED}
MAX_SAMPLE_BYTES = 256 * 1024 * 1024  # of one sample, unpacked; it is read at once
_ZSTD = 93  # PKWARE's APPNOTE 4.4.5
# Source: inspect_ai, scorer/_metric.py, value_to_float
_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_YES, _NO = ("yes", "true"), ("no", "false")
_STDERR = "stderr"


class _Score(msgspec.Struct):
    value: Any = None


class _Usage(msgspec.Struct):
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read: Any = msgspec.field(default=None, name="input_tokens_cache_read")
    cost: Any = msgspec.field(default=None, name="total_cost")


class _Sample(msgspec.Struct):
    """A sample without its input, target, messages, events, attachments and metadata."""

    id: Any = None
    epoch: Any = None
    uuid: Any = None
    scores: dict[str, _Score] | None = None
    score: _Score | None = None
    error: Any = None
    invalidation: Any = None
    usage: dict[str, _Usage] | None = msgspec.field(default=None, name="model_usage")
    started_at: Any = None
    completed_at: Any = None
    total_time: Any = None


class _Eval(msgspec.Struct):
    eval_id: Any = None
    run_id: Any = None
    task_id: Any = None
    created: Any = None
    task: Any = None
    model: Any = None
    packages: dict[str, Any] | None = None


class _Value(msgspec.Struct):
    value: Any = None


class _Scorer(msgspec.Struct):
    name: Any = None
    scorer: Any = None
    reducer: Any = None
    scored: Any = msgspec.field(default=None, name="scored_samples")
    unscored: Any = msgspec.field(default=None, name="unscored_samples")
    metrics: dict[str, _Value] | None = None


class _Results(msgspec.Struct):
    completed: Any = msgspec.field(default=None, name="completed_samples")
    scores: list[_Scorer] | None = None
    scorer: _Scorer | None = None  # of version 1, whose metrics stand beside it
    metrics: dict[str, _Value] | None = None


class _Stats(msgspec.Struct):
    completed_at: Any = None
    usage: dict[str, _Usage] | None = msgspec.field(default=None, name="model_usage")


class _Header(msgspec.Struct):
    version: Any = None
    status: Any = None
    eval: _Eval | None = None
    results: _Results | None = None
    stats: _Stats | None = None
    is_invalidated: Any = msgspec.field(default=None, name="invalidated")


class _Log(_Header):
    samples: list[msgspec.Raw] | None = None


_HEADER, _LOG = msgspec.json.Decoder(_Header), msgspec.json.Decoder(_Log)
_SAMPLE = msgspec.json.Decoder(_Sample)


def read_inspect(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    """Yield the evaluations of a log of either form."""
    if zipfile.is_zipfile(file):
        yield from _read_archive(file, origin)
        return
    log = decoded(mapped(file), _LOG)
    if log is None or log.eval is None:
        yield FileFault(MALFORMED_REPORT)
        return
    yield from _read(log, (memoryview(raw) for raw in log.samples or ()), origin)


def _read_archive(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if "header.json" not in names:
                is_begun = any(name.startswith("_journal/") for name in names)
                yield FileFault(UNFINISHED if is_begun else MALFORMED_REPORT)
                return
            header = decoded(_member(file, archive, "header.json"), _HEADER)
            if header is None or header.eval is None:
                yield FileFault(MALFORMED_REPORT)
                return
            inside = [name for name in names if name.startswith("samples/")]
            samples = (_member(file, archive, name) for name in inside)
            yield from _read(header, samples, origin)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError):
        yield FileFault(MALFORMED_REPORT)


def _member(file: BinaryIO, archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's content; empty if it is larger than a sample may be."""
    if archive.getinfo(name).compress_type == _ZSTD:
        content = _unpacked(file, archive.getinfo(name))
    else:
        with archive.open(name) as member:
            content = member.read(MAX_SAMPLE_BYTES + 1)
    return content if len(content) <= MAX_SAMPLE_BYTES else b""


def _unpacked(file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """Unpack what inspect has packed by Zstandard since 2026, which Python reads only from 3.14 on.

    Source: PKWARE's APPNOTE 4.3.7, the local header's length.
    """
    file.seek(member.header_offset)
    name_bytes, extra_bytes = struct.unpack("<HH", file.read(30)[26:])
    file.seek(name_bytes + extra_bytes, 1)
    packed = pa.BufferReader(file.read(member.compress_size))
    with pa.CompressedInputStream(packed, "zstd") as stream:
        content: bytes = stream.read(MAX_SAMPLE_BYTES + 1)
    if len(content) <= MAX_SAMPLE_BYTES and zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(member.filename)
    return content


def _read(header: _Header, samples: Any, origin: ReportOrigin) -> Iterator[Found]:  # noqa: ANN401 - of bytes
    if header.version not in _VERSIONS or isinstance(header.version, bool):
        yield FileFault(UNKNOWN_VERSION)
        return
    reader, count = _Reader(header, origin), 0
    for content in samples:
        sample = decoded(content, _SAMPLE)
        if sample is None:
            reason = MALFORMED_RECORD if len(content) else DOCUMENT_TOO_LARGE
            yield RefusedRecord(reason, count, len(content), is_line=False)
        else:
            yield from reader.sample(sample)
        count += 1
    if not count:
        yield from reader.results()
    if header.status != "success":
        yield FileFault(_ENDINGS.get(str(header.status), UNFINISHED), count)


class _Reader:
    """Turns the samples and results of one log into evaluations."""

    def __init__(self, header: _Header, origin: ReportOrigin) -> None:
        about = header.eval or _Eval()
        self._origin, self._header, self._eval = origin, header, about
        # A run may hold several logs; before May 2025 a log had no id of its own.
        self._log = name_of(about.eval_id) or identity(
            name_of(about.run_id) or origin.name, name_of(about.task_id), name_of(about.created)
        )
        provider, slash, model = (name_of(about.model) or "").partition("/")
        self._shared: dict[str, Any] = {
            "framework": "inspect",
            "framework_version": name_of((about.packages or {}).get("inspect_ai")),
            "evaluation_kind": BENCHMARK,
            "provider_id": provider if slash else None,
            "model_id": (model if slash else provider) or None,
            "technique": name_of(about.task),
        }

    def sample(self, sample: _Sample) -> Iterator[Evaluation]:
        """Yield an evaluation for each score of a sample, or one if there is none."""
        epoch = count_of(sample.epoch) or 1
        own = name_of(sample.uuid) or identity(name_of(sample.id), epoch)
        when = sample.completed_at or sample.started_at or self._eval.created
        costs, seconds = _costs(sample.usage), number_of(sample.total_time)
        for judge, value in _scores(sample, self._scorer()):
            counts = _counts(sample, value)
            yield Evaluation(
                evaluation_id=identity("inspect", self._log, own, judge),
                created_at=moment_of(when, self._origin),
                behaviour_id=name_of(sample.id),
                judge=judge,
                latency_ms=None if seconds is None else seconds * 1000,
                **self._shared,
                **counts,
                **costs,
            )
            costs, seconds = {}, None  # on one row alone, so that sums hold

    def _scorer(self) -> str:
        results = self._header.results
        scorer = results.scorer if results else None
        return (name_of(scorer.name) if scorer else None) or "score"

    def results(self) -> Iterator[Evaluation]:
        """Yield an evaluation for each scorer of a log that kept no samples."""
        results = self._header.results or _Results()
        scorers = results.scores or []
        if results.scorer and results.metrics:
            scorers = [*scorers, _Scorer(name=results.scorer.name, metrics=results.metrics)]
        costs = _costs(self._header.stats.usage if self._header.stats else None)
        judges: set[str | None] = set()
        for scorer in scorers or [_Scorer()]:
            judge = _judge(scorer, judges)
            judges.add(judge)
            metrics = {name: number_of(each.value) for name, each in (scorer.metrics or {}).items()}
            score = next((metrics[name] for name in ("accuracy", "mean") if name in metrics), None)
            scored, total = count_of(scorer.scored), count_of(results.completed)
            yield Evaluation(
                evaluation_id=identity("inspect", self._log, "results", judge, scorer.reducer),
                created_at=moment_of(
                    (self._header.stats or _Stats()).completed_at or self._eval.created,
                    self._origin,
                ),
                judge=judge,
                status="completed" if score is not None else "undetermined",
                iterations=scored if scored is not None else total,
                undetermined=count_of(scorer.unscored),
                score=score,
                score_stderr=metrics.get(_STDERR),
                **self._shared,
                **costs,
            )
            costs = {}


def _judge(scorer: _Scorer, others: set[str | None]) -> str | None:
    """Return what a result's scorer is called: as its samples' would be, and unlike the others.

    A scorer's named values have its name before theirs; a second reducer of epochs has its own.
    """
    name, whole = name_of(scorer.name), name_of(scorer.scorer)
    if name and whole and name != whole:
        name = name_of(f"{whole}/{name}")
    return name_of(f"{name}/{scorer.reducer}") if name in others else name


def _scores(sample: _Sample, scorer: str) -> Iterator[tuple[str | None, object]]:
    """Yield each scorer of a sample with its value; a scorer may give several, by name."""
    scores = dict(sample.scores or {})
    if sample.score is not None:
        scores.setdefault(scorer, sample.score)
    if not scores:
        yield None, None
    for judge, score in scores.items():
        if isinstance(score.value, dict):
            for name, value in score.value.items():
                yield name_of(f"{judge}/{name}"), value
        else:
            yield name_of(judge), score.value


def score_of(value: object) -> float | None:
    """Return a score as the number that inspect reckons with; None: unscored, or no number."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return number_of(value)
    if value in _VALUES:
        return _VALUES[value]
    if value.lower() in _YES or value.lower() in _NO:
        return float(value.lower() in _YES)
    with suppress(ValueError):
        return number_of(float(value))
    return None


def _counts(sample: _Sample, value: object) -> dict[str, Any]:
    """Return a sample's status, counts and score."""
    is_error, is_void = sample.error is not None, sample.invalidation is not None
    score = None if is_void else score_of(value)
    # A fraction measures, also where it happens to be 0.0; only words and whole numbers judge.
    is_verdict = not isinstance(value, float) and value != "N" and score in (0.0, 1.0)
    is_judged = is_verdict and not is_error and not is_void
    return {
        "status": status_of(judged=int(is_judged or score is not None), errors=int(is_error)),
        "iterations": 1,
        "successes": int(score == 0) if is_judged else None,
        "passes": int(score == 1) if is_judged else None,
        "errors": int(is_error),
        "undetermined": int(not is_judged and not is_error),
        "score": score,
    }


def _costs(usage: dict[str, _Usage] | None) -> dict[str, Any]:
    """Return the tokens and cost of all models that a sample used; none is unknown."""
    if not usage:
        return {}
    each = list(usage.values())
    cost = [found for one in each if (found := cost_of(one.cost)) is not None]
    return {
        "prompt_tokens": _sum(one.input_tokens for one in each),
        "completion_tokens": _sum(one.output_tokens for one in each),
        "cached_tokens": _sum(one.cache_read for one in each),
        "cost_usd": sum(cost) if cost else None,
    }


def _sum(values: Iterator[Any]) -> int | None:
    counts = [count for value in values if (count := count_of(value)) is not None]
    return sum(counts) if counts else None
