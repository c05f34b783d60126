"""Read spans and log records of OTLP as JSON, in the forms in which they lie in files.

A Collector's file exporter writes a request a line (`resourceSpans`, `resourceLogs`). Tempo says
`batches` and `instrumentationLibrarySpans`, or wraps a request in `trace`. Exports of SDKs are flat
spans with attributes as an object, in a list, under `spans`, or alone; Python's console names
their ids in `context`. Whole numbers may be strings, times a number, a string, ISO 8601 or
[seconds, nanoseconds].
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from include.chimera.sources.stored.lines import decoded, json_lines, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MALFORMED_LINE = "malformed_line"
_NANOSECONDS = 1_000_000_000
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_ERROR_CODES = (2, "STATUS_CODE_ERROR", "ERROR")


class _Part(msgspec.Struct, gc=False):
    """A part of a document: a tree without cycles, so the collector need not follow it."""


class _Array(_Part):
    values: list[_Value] | None = None


class _Value(_Part):
    text: Any = msgspec.field(default=None, name="stringValue")
    whole: Any = msgspec.field(default=None, name="intValue")
    double: Any = msgspec.field(default=None, name="doubleValue")
    flag: Any = msgspec.field(default=None, name="boolValue")
    array: _Array | None = msgspec.field(default=None, name="arrayValue")

    def plain(self) -> object:
        """Return the value as Python's, None if there is none of a kind that we read."""
        if self.text is not None:
            return self.text
        if self.whole is not None:
            return whole_number(self.whole)
        if self.array is not None:
            return [value.plain() for value in self.array.values or ()]
        return self.double if self.double is not None else self.flag


class _Attribute(_Part):
    key: str = ""
    value: _Value | None = None


_Attributes = list[_Attribute] | dict[str, Any]


class _Event(_Part):
    name: Any = None
    time: Any = msgspec.field(default=None, name="timeUnixNano")
    other_time: Any = msgspec.field(default=None, name="time")
    console_time: Any = msgspec.field(default=None, name="timestamp")
    attributes: _Attributes | None = None


class _Context(_Part):
    trace: Any = msgspec.field(default=None, name="traceId")
    span: Any = msgspec.field(default=None, name="spanId")


class _Status(_Part):
    code: Any = None
    flat_code: Any = msgspec.field(default=None, name="status_code")


class _Span(_Part):
    """A span of any form, without its name."""

    trace: Any = msgspec.field(default=None, name="traceId")
    span: Any = msgspec.field(default=None, name="spanId")
    parent: Any = msgspec.field(default=None, name="parentSpanId")
    flat_trace: Any = msgspec.field(default=None, name="trace_id")
    flat_span: Any = msgspec.field(default=None, name="span_id")
    flat_parent: Any = msgspec.field(default=None, name="parent_span_id")
    console_parent: Any = msgspec.field(default=None, name="parent_id")
    console_context: Any = msgspec.field(default=None, name="context")
    context: _Context | None = msgspec.field(default=None, name="spanContext")
    parent_context: _Context | None = msgspec.field(default=None, name="parentSpanContext")
    start: Any = msgspec.field(default=None, name="startTimeUnixNano")
    end: Any = msgspec.field(default=None, name="endTimeUnixNano")
    flat_start: Any = msgspec.field(default=None, name="start_time")
    flat_end: Any = msgspec.field(default=None, name="end_time")
    sdk_start: Any = msgspec.field(default=None, name="startTime")
    sdk_end: Any = msgspec.field(default=None, name="endTime")
    attributes: _Attributes | None = None
    status: _Status | str | int | None = None
    events: list[_Event] | None = None
    flat_events: list[_Event] | None = msgspec.field(default=None, name="span_events")


class _LogRecord(_Part):
    name: Any = msgspec.field(default=None, name="eventName")
    time: Any = msgspec.field(default=None, name="timeUnixNano")
    observed: Any = msgspec.field(default=None, name="observedTimeUnixNano")
    trace: Any = msgspec.field(default=None, name="traceId")
    span: Any = msgspec.field(default=None, name="spanId")
    attributes: _Attributes | None = None


class _Scope(_Part):
    spans: list[_Span] | None = None
    records: list[_LogRecord] | None = msgspec.field(default=None, name="logRecords")


class _Resource(_Part):
    scopes: list[_Scope] | None = msgspec.field(default=None, name="scopeSpans")
    libraries: list[_Scope] | None = msgspec.field(default=None, name="instrumentationLibrarySpans")
    logs: list[_Scope] | None = msgspec.field(default=None, name="scopeLogs")


class _Document(_Span):
    """A line or a file: a request, a list under a name, or a span itself."""

    resources: list[_Resource] | None = msgspec.field(default=None, name="resourceSpans")
    batches: list[_Resource] | None = None
    logs: list[_Resource] | None = msgspec.field(default=None, name="resourceLogs")
    spans: list[_Span] | None = None
    metrics: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="resourceMetrics")
    answer: _Document | str | int | None = msgspec.field(default=None, name="trace")


_NO_CONTEXT = _Context()
_DECODER = msgspec.json.Decoder(_Document | list[_Span])


class SpanEvent(NamedTuple):
    """An event of a span, or a log record with a name.

    Args:
        name: Its name.
        nanoseconds: Its time since 1970 (UTC), None if it has none.
        attributes: Those of its attributes that were asked for.
    """

    name: str
    nanoseconds: int | None
    attributes: dict[str, object]


class Span(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A span, or a log record's place: a span without times.

    Args:
        trace: The trace's id; "" if there is none or it is invalid (all zeros).
        span: The span's id, likewise.
        parent: The id of the span around it; "" of a root.
        start: Nanoseconds since 1970 (UTC), None if it has no time.
        end: Likewise.
        has_failed: Whether its status is an error.
        attributes: Those of its attributes that were asked for.
        events: What happened in it.
        is_record: Whether it is a log record's place.
    """

    trace: str
    span: str
    parent: str = ""
    start: int | None = None
    end: int | None = None
    has_failed: bool = False
    attributes: dict[str, object]
    events: tuple[SpanEvent, ...] = ()
    is_record: bool = False


class BadLine(NamedTuple):
    """A line that holds no spans.

    Args:
        offset: Position of its first byte.
        length: Its length in bytes.
    """

    offset: int
    length: int


def read_spans(
    file: BinaryIO, attributes: frozenset[str], *, may_grow: bool
) -> Iterator[Span | BadLine]:
    """Yield the spans of a file, in any order.

    Args:
        file: A local copy.
        attributes: Names of the attributes to keep; prompts and answers go no further than here.
        may_grow: Whether its last line may still be written; then half a line is left.
    """
    first, size = next(json_lines(file), None), file.seek(0, 2)
    if first is None:
        return
    single = None
    if decoded(first.content, _DECODER) is None:  # one document over several lines
        single = decoded(mapped(file), _DECODER)
    if single is not None:
        yield from _spans(single, attributes) if _has_spans(single) else [BadLine(0, size)]
        return
    for line in json_lines(file):
        document = decoded(line.content, _DECODER) if line.content else None
        if document is not None and _has_spans(document):
            yield from _spans(document, attributes)
        elif document is not None or not (may_grow and line.offset + line.length == size):
            yield BadLine(line.offset, line.length)


def _has_spans(document: _Document | list[_Span]) -> bool:
    """Is it a document of a form that we know, though it may hold none? Metrics are one, too."""
    if isinstance(document, list):
        return True
    given = (document.resources, document.batches, document.logs, document.spans)
    is_span = document.attributes is not None or bool(_span(document, frozenset()).span)
    is_answer = isinstance(document.answer, _Document) and _has_spans(document.answer)
    return is_span or is_answer or bool(document.metrics) or any(x is not None for x in given)


def _spans(document: _Document | list[_Span], kept: frozenset[str]) -> Iterator[Span]:
    span = partial(_span, kept=kept)
    if isinstance(document, list):
        yield from map(span, document)
        return
    for resource in [*(document.resources or ()), *(document.batches or ())]:
        for scope in [*(resource.scopes or ()), *(resource.libraries or ())]:
            yield from map(span, scope.spans or ())
    for resource in document.logs or ():
        for scope in resource.logs or ():
            yield from (_record(record, kept) for record in scope.records or () if record.name)
    yield from map(span, document.spans or ())
    if isinstance(document.answer, _Document):
        yield from _spans(document.answer, kept)
    whole = span(document)
    if whole.span or document.attributes is not None:
        yield whole


def _span(span: _Span, kept: frozenset[str]) -> Span:
    context = span.context or _NO_CONTEXT
    console = span.console_context if isinstance(span.console_context, dict) else {}
    around = span.parent_context or _NO_CONTEXT
    start = span.start if span.start is not None else _first(span.flat_start, span.sdk_start)
    end = span.end if span.end is not None else _first(span.flat_end, span.sdk_end)
    events = [*(span.events or ()), *(span.flat_events or ())]
    return Span(
        trace=_id(span.trace or span.flat_trace or context.trace or console.get("trace_id")),
        span=_id(span.span or span.flat_span or context.span or console.get("span_id")),
        parent=_id(span.parent or span.flat_parent or around.span or span.console_parent),
        start=nanoseconds_of(start),
        end=nanoseconds_of(end),
        has_failed=span.status is not None and _is_error(span.status),
        attributes=_plain(span.attributes, kept),
        events=tuple([_event(each, kept) for each in events]) if events else (),
    )


def _is_error(status: _Status | str | int) -> bool:
    codes = (status.code, status.flat_code) if isinstance(status, _Status) else (status,)
    return any(code in _ERROR_CODES for code in codes)


def _event(event: _Event, kept: frozenset[str]) -> SpanEvent:
    time = nanoseconds_of(_first(event.time, event.other_time, event.console_time))
    return SpanEvent(str(event.name or ""), time, _plain(event.attributes, kept))


def _record(record: _LogRecord, kept: frozenset[str]) -> Span:
    time = nanoseconds_of(record.time) or nanoseconds_of(record.observed)
    event = SpanEvent(str(record.name), time, _plain(record.attributes, kept))
    return Span(
        trace=_id(record.trace),
        span=_id(record.span),
        attributes={},
        events=(event,),
        is_record=True,
    )


def _first(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def _id(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 64:  # noqa: PLR2004 - 32 by the protocol
        return ""
    return value.lower().removeprefix("0x") if value.strip("0x") else ""


def _plain(attributes: _Attributes | None, kept: frozenset[str]) -> dict[str, object]:
    if isinstance(attributes, dict):
        return {key: value for key, value in attributes.items() if key in kept}
    return {
        each.key: each.value.plain() for each in attributes or () if each.key in kept and each.value
    }


def whole_number(value: object) -> int | None:
    """Return a whole number, which may be written as text or as 3.0; None if it is none."""
    if isinstance(value, str):
        is_number = len(value) < 20 and value.removeprefix("-").isdecimal()  # noqa: PLR2004 - of 64 bits
        return int(value) if is_number else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def nanoseconds_of(value: object) -> int | None:
    """Return a time in nanoseconds since 1970 (UTC), None if it is none.

    0 is what an absent time is in protobuf's JSON. Python's console writes text in ISO 8601.
    """
    if isinstance(value, list) and len(value) == 2:  # noqa: PLR2004 - seconds and nanoseconds
        seconds, rest = (whole_number(part) for part in value)
        return seconds * _NANOSECONDS + rest if seconds and rest is not None else None
    number = whole_number(value)
    if number is None and isinstance(value, str):
        number = _nanoseconds_of_text(value)
    return number if number and 0 < number < 2**63 else None


def _nanoseconds_of_text(value: str) -> int | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // _MICROSECOND * 1000
