"""Reports of garak (`*.report.jsonl`), versions 0.13 to 0.17.

One evaluation per run, probe and detector: garak's `eval` entry, whose failed tests are successful
attacks. A probe without such an entry (of harnesses that write none) is counted from its attempts
as garak counts: of status 2 alone, as each attempt is written before and after its detection, and
hits from the run's threshold on. Times are garak's machine's, without a zone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from include.chimera.sources.reports.evaluations import (
    ATTACK,
    CONTRADICTORY,
    MALFORMED_RECORD,
    UNFINISHED,
    UNKNOWN_VERSION,
    Evaluation,
    FileFault,
    RefusedRecord,
    count_of,
    identity,
    moment_of,
    name_of,
    number_of,
    status_of,
)
from include.chimera.sources.stored.lines import json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from include.chimera.sources.reports.evaluations import Found, ReportOrigin

_THRESHOLD = 0.5  # Source: garak.core.yaml, run.eval_threshold
_DETECTED = 2  # Source: garak.attempt.ATTEMPT_COMPLETE


class _Entry(msgspec.Struct):
    """A line: whatever names it may have that we read; all others are skipped."""

    entry_type: Any = None
    garak_version: Any = None
    start_time: Any = None
    end_time: Any = None
    run: Any = None
    probe: Any = None
    detector: Any = None
    passed: Any = None
    fails: Any = None
    nones: Any = None
    total: Any = None
    total_evaluated: Any = None
    total_processed: Any = None
    status: Any = None
    probe_classname: Any = None
    detector_results: Any = None
    threshold: Any = msgspec.field(default=None, name="run.eval_threshold")
    target_type: Any = msgspec.field(default=None, name="plugins.target_type")
    target_name: Any = msgspec.field(default=None, name="plugins.target_name")
    model_type: Any = msgspec.field(default=None, name="plugins.model_type")
    model_name: Any = msgspec.field(default=None, name="plugins.model_name")


_DECODER = msgspec.json.Decoder(_Entry)


@dataclass
class _Tally:
    """Attempts of one probe, as one detector judged them."""

    hits: int = 0
    misses: int = 0
    nones: int = 0

    def add(self, results: object, threshold: float) -> None:
        """Count the scores of an attempt: one per output, or a list of them per turn."""
        if isinstance(results, list):
            for result in results:
                self.add(result, threshold)
            return
        score = number_of(results)
        if score is None:
            self.nones += 1
        elif score >= threshold:
            self.hits += 1
        else:
            self.misses += 1


@dataclass
class _Run:
    """What a report says of one run, until the run ends."""

    run_id: str | None = None
    version: str | None = None
    provider: str | None = None
    model: str | None = None
    started: Any = None
    ended: Any = None
    threshold: float = _THRESHOLD
    is_ended: bool = False
    evals: list[_Entry] = field(default_factory=list)
    tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)

    def read(self, entry: _Entry) -> str | None:
        """Take in an entry; return why it is refused, None if it is not."""
        match entry.entry_type:
            case "start_run setup":
                self._set_up(entry)
            case "init":
                self.run_id, self.started = name_of(entry.run), entry.start_time
                self.version = name_of(entry.garak_version)
            case "attempt" if entry.status == _DETECTED:
                return self._attempt(entry)
            case "eval":
                return self._eval(entry)
            case "completion":
                self.ended, self.is_ended = entry.end_time, True
            case "digest":  # written when all is done, also by what merges reports
                self.is_ended = True
            case str():
                pass
            case _:
                return MALFORMED_RECORD
        return None

    def _set_up(self, entry: _Entry) -> None:
        self.provider = name_of(entry.target_type) or name_of(entry.model_type)
        self.model = name_of(entry.target_name) or name_of(entry.model_name) or self.provider
        threshold = number_of(entry.threshold)
        self.threshold = _THRESHOLD if threshold is None else threshold

    def _attempt(self, entry: _Entry) -> str | None:
        probe = name_of(entry.probe_classname)
        if probe is None or not isinstance(entry.detector_results, dict):
            return MALFORMED_RECORD
        for detector, results in entry.detector_results.items():
            if name_of(detector):
                self.tallies.setdefault((probe, detector), _Tally()).add(results, self.threshold)
        return None

    def _eval(self, entry: _Entry) -> str | None:
        passed, total = count_of(entry.passed), _total(entry)
        if None in (name_of(entry.probe), name_of(entry.detector), passed, total):
            return MALFORMED_RECORD
        fails = total - passed if entry.fails is None else count_of(entry.fails)  # type: ignore[operator]  # neither is None
        if fails is None or fails < 0 or passed + fails != total:  # type: ignore[operator]  # as above
            return CONTRADICTORY
        self.evals.append(entry)
        return None

    def evaluations(self, origin: ReportOrigin) -> Iterator[Evaluation]:
        """Yield an evaluation for each eval entry, and for each probe that has none."""
        seen: dict[tuple[str, str], int] = {}
        for entry in self.evals:
            probe, detector = str(name_of(entry.probe)), str(name_of(entry.detector))
            passed, total, nones = count_of(entry.passed), _total(entry), count_of(entry.nones)
            processed = count_of(entry.total_processed)
            seen[probe, detector] = repeat = seen.get((probe, detector), 0) + 1
            fails = (total or 0) - (passed or 0)
            counts = (processed if processed is not None else total, fails, passed, nones)
            yield self._evaluation(origin, probe, detector, *counts, repeat=repeat)
        judged = {probe for probe, _ in seen}
        for (probe, detector), tally in self.tallies.items():
            if probe not in judged:
                tried = tally.hits + tally.misses + tally.nones
                counts = (tried, tally.hits, tally.misses, tally.nones)
                yield self._evaluation(origin, probe, detector, *counts)

    def _evaluation(  # noqa: PLR0913, PLR0917 - the counts of one row
        self,
        origin: ReportOrigin,
        probe: str,
        detector: str,
        tried: int | None,
        fails: int | None,
        passed: int | None,
        nones: int | None,
        *,
        repeat: int = 1,
    ) -> Evaluation:
        judged = (fails or 0) + (passed or 0)
        return Evaluation(
            # The same run in two files is one run; without a run's id the file has to do.
            evaluation_id=garak_identity(self.run_id or origin.name, probe, detector, repeat),
            created_at=moment_of(self.ended or self.started, origin),
            framework="garak",
            framework_version=self.version,
            evaluation_kind=ATTACK,
            provider_id=self.provider,
            model_id=self.model,
            technique=probe,
            judge=detector,
            status=status_of(judged=judged, errors=None),
            iterations=tried,
            successes=fails,
            passes=passed,
            undetermined=nones,
        )


def garak_identity(run: str, probe: str, detector: str, repeat: int = 1) -> str:
    """Return the key of what a run's detector said of a probe, in whichever form it is reported."""
    return identity("garak", run, probe, detector, *([repeat] if repeat > 1 else []))


def _total(entry: _Entry) -> int | None:
    return count_of(entry.total if entry.total_evaluated is None else entry.total_evaluated)


def read_garak(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    """Yield the evaluations of a report, which may hold several runs one after another."""
    run, records = _Run(), 0
    for line in json_lines(file):
        records += 1
        try:
            entry = _DECODER.decode(line.content) if line.content else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            entry = None
        if entry is not None and entry.entry_type == "init" and run.run_id and run.is_ended:
            yield from run.evaluations(origin)
            run = _Run(provider=run.provider, model=run.model, threshold=run.threshold)
        reason = MALFORMED_RECORD if entry is None else run.read(entry)
        if reason:
            yield RefusedRecord(reason, line.offset, line.length)
        if run.version and not run.version.startswith("0."):
            yield FileFault(UNKNOWN_VERSION, records)
            return
    yield from run.evaluations(origin)
    if not run.is_ended:
        yield FileFault(UNFINISHED, records)
