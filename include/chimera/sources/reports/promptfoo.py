"""Results of promptfoo: JSON of version 2 or 3, an evaluation as it is shared, or JSON lines.

One evaluation per test case and prompt. `error` is filled for every failed assertion; whether the
provider failed is said by `failureReason` 2 alone and, before version 3, by the lack of a grading.
What a red-team plugin made is an attack, which succeeds where the test does not.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from include.chimera.sources.reports.evaluations import (
    ATTACK,
    BENCHMARK,
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
from include.chimera.sources.stored.lines import decoded, json_lines, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from include.chimera.sources.reports.evaluations import Found, ReportOrigin

_VERSIONS = (2, 3)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ERROR = 2  # Source: promptfoo, src/types/index.ts, ResultFailureReason.ERROR
# The second part of a provider's id that names an endpoint, not a model.
# Source: promptfoo, docs of its providers: openai:chat:…, anthropic:messages:…
_ENDPOINTS = frozenset(
    {
        *("agents", "assistant", "chat", "completion", "embedding", "embeddings", "image", "live"),
        *("messages", "realtime", "responses", "transcription"),
    }
)
# These begin a path, a command or a URL, of which nothing is stored.
_PLACES = frozenset(
    {"exec", "file", "golang", "http", "https", "python", "ruby", "ws", "wss"},
)


class _Usage(msgspec.Struct):
    prompt: Any = None
    completion: Any = None
    cached: Any = None
    total: Any = None


class _Response(msgspec.Struct):
    usage: _Usage | None = msgspec.field(default=None, name="tokenUsage")


class _Assertion(msgspec.Struct):
    type: Any = None


class _Component(msgspec.Struct):
    assertion: _Assertion | None = None


class _Grading(msgspec.Struct):
    assertion: _Assertion | None = None
    components: list[_Component] | None = msgspec.field(default=None, name="componentResults")


class _Metadata(msgspec.Struct):
    plugin: Any = msgspec.field(default=None, name="pluginId")
    strategy: Any = msgspec.field(default=None, name="strategyId")


class _TestCase(msgspec.Struct):
    metadata: _Metadata | None = None


class _Provider(msgspec.Struct):
    id: Any = None
    label: Any = None


class _Result(msgspec.Struct):
    """A row of the results, without what was asked, answered or reasoned."""

    id: Any = None
    eval_id: Any = msgspec.field(default=None, name="evalId")
    test: Any = msgspec.field(default=None, name="testIdx")
    prompt: Any = msgspec.field(default=None, name="promptIdx")
    success: Any = None
    score: Any = None
    failure_reason: Any = msgspec.field(default=None, name="failureReason")
    has_error: Any = msgspec.field(default=None, name="error")
    grading: _Grading | None = msgspec.field(default=None, name="gradingResult")
    provider: _Provider | str | None = None
    response: _Response | None = None
    shared_response: _Response | None = msgspec.field(default=None, name="providerResponse")
    latency_ms: Any = msgspec.field(default=None, name="latencyMs")
    cost: Any = None
    metadata: _Metadata | None = None
    case: _TestCase | None = msgspec.field(default=None, name="testCase")


class _About(msgspec.Struct):
    version: Any = msgspec.field(default=None, name="promptfooVersion")


class _Shared(msgspec.Struct):
    """What all forms have at their top."""

    id: Any = None
    eval_id: Any = msgspec.field(default=None, name="evalId")
    version: Any = None
    timestamp: Any = None
    created: Any = msgspec.field(default=None, name="createdAt")
    about: _About | None = msgspec.field(default=None, name="metadata")


class _Inner(msgspec.Struct):
    version: Any = None
    timestamp: Any = None
    results: list[msgspec.Raw] | None = None


class _Wrapped(_Shared):
    """Version 3, and 2 as the web page exports it: the results are an object."""

    results: _Inner | None = None


class _Flat(_Shared):
    """Version 2 as the library returns it, and an evaluation as it is shared: a list."""

    results: list[msgspec.Raw] | None = None


_WRAPPED, _FLAT = msgspec.json.Decoder(_Wrapped), msgspec.json.Decoder(_Flat)
_RESULT = msgspec.json.Decoder(_Result)


def read_promptfoo_lines(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    """Yield the evaluations of a file with one result a line, which names neither run nor time.

    promptfoo appends each result as it comes: a file that ends within one is still being written.
    """
    reader, size = _Reader(origin.name, origin.written_at, None), file.seek(0, 2)
    for index, line in enumerate(json_lines(file)):
        found = reader.read(index, line.content)
        is_half = line.offset + line.length == size and not line.content.endswith(b"}")
        if is_half and isinstance(found, RefusedRecord):
            yield FileFault(UNFINISHED, index)
            return
        yield found


def read_promptfoo(file: BinaryIO, origin: ReportOrigin) -> Iterator[Found]:
    """Yield the evaluations of a result file."""
    document = mapped(file)
    found: _Wrapped | _Flat | None = decoded(document, _WRAPPED) or decoded(document, _FLAT)
    if found is None or found.results is None:
        yield FileFault(MALFORMED_REPORT)
        return
    inner = found.results if isinstance(found.results, _Inner) else None
    results = inner.results if inner else found.results
    version = inner.version if inner else found.version
    # An evaluation as it is shared names no version of its results, but itself and its beginning.
    is_shared = version is None and name_of(found.id) and found.created is not None
    if not is_shared and version not in _VERSIONS:
        yield FileFault(UNKNOWN_VERSION)
        return
    if not isinstance(results, list):
        yield FileFault(MALFORMED_REPORT)
        return
    moment = (inner and inner.timestamp) or found.timestamp or _text_of(found.created)
    reader = _Reader(
        name_of(found.eval_id) or name_of(found.id) or origin.name,
        moment_of(moment, origin),
        name_of(found.about.version) if found.about else None,
    )
    for index, raw in enumerate(results):
        yield reader.read(index, memoryview(raw))


class _Reader(msgspec.Struct):
    """Turns the rows of one file into evaluations."""

    eval_id: str
    created_at: datetime
    version: str | None

    def read(self, index: int, content: memoryview | bytes) -> Found:
        """Return a row's evaluation, or that it is refused."""
        row = decoded(content, _RESULT)
        if row is None or not isinstance(row.success, bool):
            return RefusedRecord(MALFORMED_RECORD, index, len(content), is_line=False)
        return self._evaluation(index, row)

    def _evaluation(self, index: int, row: _Result) -> Evaluation:
        is_error, eval_id = _is_error(row), name_of(row.eval_id) or self.eval_id
        plugin, strategy = _redteam(row)
        given = row.provider if isinstance(row.provider, _Provider) else _Provider(row.provider)
        provider, model = provider_and_model(given.id)
        usage = next((r.usage for r in (row.response, row.shared_response) if r and r.usage), None)
        return Evaluation(
            evaluation_id=identity("promptfoo", *_own_id(index, row, eval_id)),
            created_at=self.created_at,
            framework="promptfoo",
            framework_version=self.version,
            evaluation_kind=ATTACK if plugin or strategy else BENCHMARK,
            provider_id=provider,
            model_id=model or name_of(given.label),
            technique=strategy or plugin,
            behaviour_id=plugin or _case(row),
            judge=_judge(row.grading),
            status=status_of(judged=int(not is_error), errors=int(is_error)),
            iterations=1,
            successes=None if is_error else int(not row.success),
            passes=None if is_error else int(row.success),
            errors=int(is_error),
            undetermined=0,
            score=None if is_error else number_of(row.score),
            prompt_tokens=count_of(usage.prompt) if usage else None,
            completion_tokens=count_of(usage.completion) if usage else None,
            cached_tokens=count_of(usage.cached) if usage else None,
            latency_ms=number_of(row.latency_ms),
            cost_usd=cost_of(row.cost),
        )


def _is_error(row: _Result) -> bool:
    if row.failure_reason is not None:
        return bool(row.failure_reason == _ERROR)
    return not row.success and bool(row.has_error) and row.grading is None


def _own_id(index: int, row: _Result, eval_id: str) -> tuple[object, ...]:
    """Return what tells a row from all others, in each export of it.

    Its id alone, as its JSON lines do not name the evaluation; without one, its place in it.
    """
    if (name := name_of(row.id)) and _UUID.fullmatch(name):
        return (name,)
    if name:
        return (eval_id, name)
    if count_of(row.test) is None or count_of(row.prompt) is None:
        return (eval_id, "index", index)
    return (eval_id, row.test, row.prompt)


def _redteam(row: _Result) -> tuple[str | None, str | None]:
    """Return the red-team plugin and strategy that made a test, of the row or its test case."""
    both = [row.metadata, row.case.metadata if row.case else None]
    plugin, strategy = (
        next((name for each in both if each and (name := name_of(getattr(each, field)))), None)
        for field in ("plugin", "strategy")
    )
    return plugin, strategy


def _case(row: _Result) -> str | None:
    test = count_of(row.test)
    return None if test is None else f"test {test}"


def _judge(grading: _Grading | None) -> str | None:
    """Return the kinds of assertions that judged a row."""
    if grading is None:
        return None
    parts = [component.assertion for component in grading.components or ()]
    kinds = {name_of(part.type) for part in [*parts, grading.assertion] if part}
    return ", ".join(sorted(kind for kind in kinds if kind)) or None


def provider_and_model(provider: object) -> tuple[str | None, str | None]:
    """Return provider and model of an id such as `openai:chat:gpt-4o`.

    Of an id that is a path, a command or a URL only its kind is kept, and the model is not known.
    """
    name = name_of(provider)
    if name is None:
        return None, None
    first, separator, rest = name.partition(":")
    if first.lower() in _PLACES or "/" in first:
        return first if "/" not in first else "file", None
    if not separator:
        return None, first
    kind, more, model = rest.partition(":")
    return first, model if more and kind in _ENDPOINTS else rest


def _text_of(created: object) -> str | None:
    """Return a time in milliseconds since 1970 (UTC), or as text, as text."""
    if isinstance(created, bool) or not isinstance(created, int | float):
        return created if isinstance(created, str) else None
    try:
        return datetime.fromtimestamp(created / 1000, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return None
