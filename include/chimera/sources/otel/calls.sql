-- One row per span that tells of a call of a model, may stand around or inside one, or is refused (with a reason).
--
-- Frameworks put a call's tokens on spans around it, too; some of these name no operation. Names are OpenTelemetry's GenAI conventions', up
-- to 1.36 and since, and OpenInference's. Calls that ended after the window are left out.
-- Source: open-telemetry/semantic-conventions-genai, docs/gen-ai; Arize-ai/openinference, spec.
with texts as (
    select file, "index", try(decode(content)) as text from stream where not is_log
),

parsed as (
    select *, fields_of(text) as fields from texts
),

keyed as (
    select *, is_malformed(fields, text) as is_odd, attributes_of(fields, text) as attributes from parsed
),

given as (
    select *, list_transform(attributes, lambda each: each.key) as names from keyed
),

looked as (
    select
        * exclude (attributes, names),
        value_of(attributes, names, 'gen_ai.operation.name') as "gen_ai.operation.name",
        value_of(attributes, names, 'openinference.span.kind') as "openinference.span.kind",
        value_of(attributes, names, 'gen_ai.response.finish_reasons') as "gen_ai.response.finish_reasons",
        value_of(attributes, names, 'gen_ai.usage.input_tokens') as "gen_ai.usage.input_tokens",
        value_of(attributes, names, 'gen_ai.usage.prompt_tokens') as "gen_ai.usage.prompt_tokens",
        value_of(attributes, names, 'llm.token_count.prompt') as "llm.token_count.prompt",
        value_of(attributes, names, 'gen_ai.usage.output_tokens') as "gen_ai.usage.output_tokens",
        value_of(attributes, names, 'gen_ai.usage.completion_tokens') as "gen_ai.usage.completion_tokens",
        value_of(attributes, names, 'llm.token_count.completion') as "llm.token_count.completion",
        value_of(attributes, names, 'gen_ai.response.model') as "gen_ai.response.model",
        value_of(attributes, names, 'gen_ai.request.model') as "gen_ai.request.model",
        value_of(attributes, names, 'llm.model_name') as "llm.model_name",
        value_of(attributes, names, 'gen_ai.provider.name') as "gen_ai.provider.name",
        value_of(attributes, names, 'gen_ai.system') as "gen_ai.system",
        value_of(attributes, names, 'llm.provider') as "llm.provider",
        value_of(attributes, names, 'llm.system') as "llm.system",
        value_of(attributes, names, 'gen_ai.conversation.id') as "gen_ai.conversation.id",
        value_of(attributes, names, 'session.id') as "session.id",
        value_of(attributes, names, 'user.id') as "user.id",
        value_of(attributes, names, 'enduser.id') as "enduser.id",
        value_of(attributes, names, 'gen_ai.response.id') as "gen_ai.response.id",
        value_of(attributes, names, 'gen_ai.response.time_to_first_chunk') as "gen_ai.response.time_to_first_chunk",
        value_of(attributes, names, 'gen_ai.server.time_to_first_token') as "gen_ai.server.time_to_first_token",
        value_of(attributes, names, 'llm.cost.total') as "llm.cost.total",
        value_of(attributes, names, 'gen_ai.usage.cost') as "gen_ai.usage.cost",
        value_of(attributes, names, 'operation.cost') as "operation.cost",
        value_of(attributes, names, 'error.type') as "error.type"
    from given
),

valued as (
    select
        *,
        "gen_ai.operation.name"."stringValue" as operation,
        upper("openinference.span.kind"."stringValue") as kind,
        "gen_ai.response.finish_reasons" as reasons,
        coalesce(
            count_of("gen_ai.usage.input_tokens"),
            count_of("gen_ai.usage.prompt_tokens"),
            count_of("llm.token_count.prompt")
        ) as prompt_tokens,
        coalesce(
            count_of("gen_ai.usage.output_tokens"),
            count_of("gen_ai.usage.completion_tokens"),
            count_of("llm.token_count.completion")
        ) as completion_tokens,
        coalesce(
            name_of("gen_ai.response.model"),
            name_of("gen_ai.request.model"),
            name_of("llm.model_name")
        ) as model_id,
        coalesce(
            name_of("gen_ai.provider.name"),
            name_of("gen_ai.system"),
            name_of("llm.provider"),
            name_of("llm.system")
        ) as provider_id,
        coalesce(
            name_of("gen_ai.conversation.id"), name_of("session.id")
        ) as session_id,
        coalesce(name_of("user.id"), name_of("enduser.id")) as user_id,
        name_of("gen_ai.response.id") as request_id,
        1000 * coalesce(
            number_of("gen_ai.response.time_to_first_chunk"),
            number_of("gen_ai.server.time_to_first_token")
        ) as ttft_ms,
        coalesce(
            cost_of("llm.cost.total"),
            cost_of("gen_ai.usage.cost"),
            cost_of("operation.cost")
        ) as cost_usd,
        trace_of(fields) as trace,
        span_of(fields) as span,
        parent_of(fields) as parent,
        start_of(fields) as started,
        end_of(fields) as ended,
        has_failed(fields) as has_failed,
        case
            when has_failed(fields)
                then coalesce(name_of("error.type"), exception_of(events_of(text)))
        end as error_code
    from looked
),

named as (
    select
        *,
        prompt_tokens is not null or completion_tokens is not null as has_usage,
        case
            when has_failed then 'failed'
            when contains(coalesce(reasons."arrayValue", reasons."stringValue"), 'content_filter') then 'filtered'
            else 'succeeded'
        end as status,
        coalesce(ended, started) as last_ns,
        least(coalesce(started, last_ns), last_ns) as first_ns
    from valued
),

told as (
    select
        *,
        -- What is no call of a model, whatever tokens it bears, is known; what is neither is one if it bears some.
        case
            when operation <> ''
                then operation in ('chat', 'text_completion', 'generate_content', 'embeddings', 'completion')
                    or has_usage and operation not in (
                        'agent', 'create_agent', 'create_memory', 'execute_tool', 'invoke_agent', 'invoke_workflow',
                        'retrieval', 'task', 'tool', 'workflow'
                    )
            when kind <> ''
                then kind in ('LLM', 'EMBEDDING')
                    or has_usage and kind not in (
                        'AGENT', 'CHAIN', 'EVALUATOR', 'GUARDRAIL', 'PROMPT', 'RERANKER', 'RETRIEVER', 'TOOL'
                    )
            else has_usage
        end as is_call,
        case
            when is_odd then 'malformed_span'
            when is_call and last_ns is null then 'span_without_time'
        end as reason
    from named
)

select
    reason,
    file,
    "index",
    trace,
    span,
    parent,
    is_call and reason is null as is_call,
    has_usage,
    case
        when trace <> '' and span <> '' then trace || ':' || span
        -- An instrumentation without ids: the call's own facts have to do.
        else identity_of([
            'otel', first_ns::varchar, last_ns::varchar, if(has_usage, 'True', 'False'), user_id, session_id, request_id,
            provider_id, model_id, prompt_tokens::varchar, completion_tokens::varchar, ttft_ms::varchar, status, error_code,
            cost_usd::varchar
        ])
    end as generation_id,
    make_timestamptz(first_ns // 1000) as created_at,
    make_timestamptz(last_ns // 1000) as updated_at,
    user_id,
    session_id,
    request_id,
    provider_id,
    model_id,
    prompt_tokens,
    completion_tokens,
    case when started is not null and ended is not null then (last_ns - first_ns) / 1e6 end as latency_ms,
    ttft_ms,
    status,
    error_code,
    null::varchar[] as techniques,
    cost_usd
from told
where
    reason is not null
    or if(is_call, make_timestamptz(last_ns // 1000) < getvariable('window_end'), span <> '')
