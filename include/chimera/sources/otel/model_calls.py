"""What a span says of a call of a model, by OpenTelemetry's GenAI conventions and OpenInference's.

Both generations of names are read: `gen_ai.provider.name` and, up to 1.36, `gen_ai.system`;
`…usage.input_tokens` and `…usage.prompt_tokens`; OpenInference's `llm.…`.
Source: open-telemetry/semantic-conventions-genai, docs/gen-ai; Arize-ai/openinference, spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from include.chimera.sources.otel.span_files import whole_number
from include.chimera.sources.reports.evaluations import (
    BENCHMARK,
    Evaluation,
    cost_of,
    identity,
    name_of,
    number_of,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from include.chimera.sources.otel.span_files import Span, SpanEvent

_CALLS = frozenset({"chat", "text_completion", "generate_content", "embeddings", "completion"})
_CALL_KINDS = frozenset({"LLM", "EMBEDDING"})
# What is no call of a model, whatever tokens it bears; what is neither is one if it bears some.
_OTHERS = frozenset(
    {
        *("agent", "create_agent", "create_memory", "execute_tool", "invoke_agent"),
        *("invoke_workflow", "retrieval", "task", "tool", "workflow"),
    }
)
_OTHER_KINDS = frozenset(
    {"AGENT", "CHAIN", "EVALUATOR", "GUARDRAIL", "PROMPT", "RERANKER", "RETRIEVER", "TOOL"}
)
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
)
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
_SESSION = ("gen_ai.conversation.id", "session.id")
_USER = ("user.id", "enduser.id")
_COST = ("llm.cost.total", "gen_ai.usage.cost", "operation.cost")
_FIRST = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
_OPERATION = "gen_ai.operation.name"
_KIND = "openinference.span.kind"
_REASONS = "gen_ai.response.finish_reasons"
_FILTERED = "content_filter"
_RESPONSE = ("gen_ai.response.id",)
_ERROR = "error.type"
_RAISED = "exception.type"
_EVALUATION = "gen_ai.evaluation.name"
_LABEL = "gen_ai.evaluation.score.label"
_SCORE = "gen_ai.evaluation.score.value"
RESULT = "gen_ai.evaluation.result"
# What is read of a span and of its events. Nothing else leaves the file's reader.
ATTRIBUTES = frozenset(
    (
        *(_OPERATION, _KIND, _REASONS, _ERROR, _RAISED, _EVALUATION, _LABEL, _SCORE),
        *(*_INPUT, *_OUTPUT, *_MODEL, *_PROVIDER, *_SESSION, *_USER, *_COST, *_FIRST, *_RESPONSE),
    )
)
_PASSED = frozenset({"pass", "passed", "true", "yes", "correct"})
_NOT_PASSED = frozenset({"fail", "failed", "false", "no", "incorrect"})


class ModelCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call of a model, as one span tells it; another span may tell of the same call."""

    has_usage: bool
    user_id: str | None
    session_id: str | None
    request_id: str | None
    provider_id: str | None
    model_id: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    ttft_ms: float | None
    status: str
    error_code: str | None
    cost_usd: Decimal | None


def model_call(span: Span) -> ModelCall | None:
    """Return what a span says of a model's call; None: it is an agent, a chain, a tool or no GenAI.

    Frameworks put the tokens of a call on spans around it, too; some of these name no operation.
    """
    found = span.attributes
    operation, kind = found.get(_OPERATION), found.get(_KIND)
    prompt, completion = _count(found, _INPUT), _count(found, _OUTPUT)
    has_usage = prompt is not None or completion is not None
    if not _is_call(operation, kind, has_usage=has_usage):
        return None
    seconds = _number(found, _FIRST)
    return ModelCall(
        has_usage=has_usage,
        user_id=_name(found, _USER),
        session_id=_name(found, _SESSION),
        request_id=_name(found, _RESPONSE),
        provider_id=_name(found, _PROVIDER),
        model_id=_name(found, _MODEL),
        prompt_tokens=prompt,
        completion_tokens=completion,
        ttft_ms=None if seconds is None else seconds * 1000,
        status=_status(span),
        error_code=_error(span),
        cost_usd=_cost(found),
    )


def _is_call(operation: object, kind: object, *, has_usage: bool) -> bool:
    if isinstance(operation, str) and operation:
        return operation in _CALLS or (has_usage and operation not in _OTHERS)
    if isinstance(kind, str) and kind:
        kind = kind.upper()
        return kind in _CALL_KINDS or (has_usage and kind not in _OTHER_KINDS)
    return has_usage


def _status(span: Span) -> str:
    if span.has_failed:
        return "failed"
    reasons = span.attributes.get(_REASONS)
    is_filtered = isinstance(reasons, list | str) and _FILTERED in reasons
    return "filtered" if is_filtered else "succeeded"


def _error(span: Span) -> str | None:
    """Return an error's class, of which nothing is text."""
    if not span.has_failed:
        return None
    raised = (event.attributes.get(_RAISED) for event in span.events)
    return next(
        (name for value in (span.attributes.get(_ERROR), *raised) if (name := name_of(value))),
        None,
    )


def _name(found: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    for each in names:
        if (name := name_of(found.get(each))) is not None:
            return name
    return None


def _count(found: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        count = whole_number(found.get(name))
        if count is not None and count >= 0:
            return count
    return None


def _number(found: Mapping[str, object], names: tuple[str, ...]) -> float | None:
    for name in names:
        if (value := number_of(found.get(name))) is not None:
            return value
    return None


def _cost(found: Mapping[str, object]) -> Decimal | None:
    for name in _COST:
        if cost := cost_of(found.get(name)):
            return cost
    return None


def evaluation_of(span: Span, event: SpanEvent, place: int, created_at: datetime) -> Evaluation:
    """Return the evaluation that an event `gen_ai.evaluation.result` tells.

    Its label decides: only pass or fail, in usual words, is a judgement; any other is undetermined.

    Args:
        span: The span, or the place of the log record, that it belongs to.
        event: The event.
        place: Its number among the span's events.
        created_at: Its time.
    """
    found, around = event.attributes, span.attributes
    name = name_of(found.get(_EVALUATION))
    verdict = _verdict(found.get(_LABEL))
    is_error = found.get(_ERROR) is not None
    shared: dict[str, Any] = {**around, **found}
    return Evaluation(
        evaluation_id=identity(
            "otel", span.trace, span.span, event.nanoseconds, name, *([place] if place else [])
        ),
        created_at=created_at,
        framework="opentelemetry",
        evaluation_kind=BENCHMARK,
        provider_id=_name(shared, _PROVIDER),
        model_id=_name(shared, _MODEL),
        technique=name,
        behaviour_id=_name(found, _RESPONSE),
        judge=name,
        status=status_of(judged=int(verdict is not None), errors=int(is_error)),
        iterations=1,
        successes=None if verdict is None else int(not verdict),
        passes=None if verdict is None else int(verdict),
        errors=int(is_error),
        undetermined=int(verdict is None and not is_error),
        score=number_of(found.get(_SCORE)),
    )


def _verdict(label: object) -> bool | None:
    word = label.lower() if isinstance(label, str) else ""
    return word in _PASSED if word in _PASSED or word in _NOT_PASSED else None
