"""Find spans and log records of OTLP as JSON, in the forms in which they lie in files.

A Collector's file exporter writes a request a line (`resourceSpans`, `resourceLogs`). Tempo says
`batches` and `instrumentationLibrarySpans`, or wraps a request in `trace`. Exports of SDKs are flat
spans with attributes as an object, in a list, under `spans`, or alone. What a span says is not read
here: it leaves as JSON, for DuckDB (`model_calls.py`).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from include.chimera.sources.stored.lines import decoded, json_lines, mapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

MALFORMED_LINE = "malformed_line"


class _Part(msgspec.Struct, gc=False):
    """A part of a document: a tree without cycles, so the collector need not follow it."""


class _Scope(_Part):
    spans: list[msgspec.Raw] | None = None
    records: list[msgspec.Raw] | None = msgspec.field(default=None, name="logRecords")


class _Resource(_Part):
    scopes: list[_Scope] | None = msgspec.field(default=None, name="scopeSpans")
    libraries: list[_Scope] | None = msgspec.field(default=None, name="instrumentationLibrarySpans")
    logs: list[_Scope] | None = msgspec.field(default=None, name="scopeLogs")


class _Request(_Part):
    """A line or a file that holds spans, under names that tell."""

    resources: list[_Resource] | None = msgspec.field(default=None, name="resourceSpans")
    batches: list[_Resource] | None = None
    logs: list[_Resource] | None = msgspec.field(default=None, name="resourceLogs")
    spans: list[msgspec.Raw] | None = None
    metrics: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="resourceMetrics")
    answer: _Request | str | int | None = msgspec.field(default=None, name="trace")

    def is_known(self) -> bool:
        """Is it of a form that we know, though it may hold no span? Metrics are one, too."""
        given = (self.resources, self.batches, self.logs, self.spans)
        is_answer = isinstance(self.answer, _Request) and self.answer.is_known()
        return is_answer or bool(self.metrics) or any(each is not None for each in given)


class _Document(_Request):
    """The same, or a span itself."""

    attributes: msgspec.Raw = msgspec.Raw()
    span: Any = msgspec.field(default=None, name="spanId")
    flat_span: Any = msgspec.field(default=None, name="span_id")
    context: Any = msgspec.field(default=None, name="spanContext")
    console_context: Any = msgspec.field(default=None, name="context")

    def is_span(self) -> bool:
        """Is it a span, as some write one a line?"""
        contexts = (each for each in (self.context, self.console_context) if isinstance(each, dict))
        named = (each.get(key) for each in contexts for key in ("spanId", "span_id"))
        has_id = any(isinstance(each, str) and each for each in (self.span, self.flat_span, *named))
        return has_id or bytes(self.attributes) not in {b"", b"null"}


_DECODER = msgspec.json.Decoder(_Document | list[msgspec.Raw])


class OtlpRecord(NamedTuple):
    """A span, or a log record.

    Args:
        content: Its JSON; no memoryview, whose memory pyarrow 26 never gives back.
        is_log: Whether it is a log record.
    """

    content: bytes
    is_log: bool = False


class BadLine(NamedTuple):
    """A line that holds no spans.

    Args:
        offset: Position of its first byte.
        length: Its length in bytes.
    """

    offset: int
    length: int


def read_spans(file: BinaryIO, *, may_grow: bool) -> Iterator[OtlpRecord | BadLine]:
    """Yield the spans and log records of a file, in any order.

    Args:
        file: A local copy.
        may_grow: Whether its last line may still be written; then half a line is left.
    """
    first, size = next(json_lines(file), None), file.seek(0, 2)
    if first is None:
        return
    if decoded(first.content, _DECODER) is None:  # one document over several lines
        content = mapped(file)
        if (single := decoded(content, _DECODER)) is not None:
            whole = _records(single, content)
            yield from [BadLine(0, size)] if whole is None else whole
            return
    for line in json_lines(file):
        document = decoded(line.content, _DECODER) if line.content else None
        if records := document is not None and _records(document, line.content):
            yield from records
        elif document is not None or not (may_grow and line.offset + line.length == size):
            yield BadLine(line.offset, line.length)


def _records(
    document: _Document | list[msgspec.Raw], content: memoryview | bytes
) -> Iterable[OtlpRecord] | None:
    """Return what a document holds, None if it is of no form that we know."""
    if isinstance(document, list):
        return _spans(document)
    if document.is_span():
        return chain(_inside(document), [OtlpRecord(bytes(content))])
    return _inside(document) if document.is_known() else None


def _inside(request: _Request) -> Iterator[OtlpRecord]:
    for resource in chain(request.resources or (), request.batches or ()):
        for scope in chain(resource.scopes or (), resource.libraries or ()):
            yield from _spans(scope.spans or ())
    for resource in request.logs or ():
        for scope in resource.logs or ():
            yield from (OtlpRecord(bytes(each), is_log=True) for each in scope.records or ())
    yield from _spans(request.spans or ())
    if isinstance(request.answer, _Request):
        yield from _inside(request.answer)


def _spans(listed: Iterable[msgspec.Raw]) -> Iterator[OtlpRecord]:
    return (OtlpRecord(bytes(each)) for each in listed)
