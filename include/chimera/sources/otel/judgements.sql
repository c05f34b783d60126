-- One row per judgement of an answer (`gen_ai.evaluation.result`), from events of spans and from log records, or per record that is refused
-- (with a reason).
--
-- Its label decides: only pass or fail, in usual words, is a judgement; any other is undetermined. Those of after the window are left out.
-- Source: open-telemetry/semantic-conventions-genai, docs/gen-ai.
with texts as (
    select file, "index", is_log, try(decode(content)) as text from stream
),

parsed as (
    select *, fields_of(text) as fields from texts where coalesce(contains(text, 'gen_ai.evaluation.result'), true)
),

keyed as (
    select *, is_malformed(fields, text) as is_odd, attributes_of(fields, text) as attributes from parsed
),

spans as (
    select
        file,
        "index",
        is_odd,
        trace_of(fields) as trace,
        span_of(fields) as span,
        end_of(fields) as ended,
        attributes as attributes_around,
        if(is_log or is_odd, [text::json], events_of(text)) as events
    from keyed
),

told as (
    select
        * exclude (events),
        unnest(events) as event,
        generate_subscripts(events, 1) - 1 as place
    from spans
),

results as (
    select *, fields_of(event) as fields
    from told
    where is_odd or coalesce(event ->> '$.eventName', event ->> '$.name') = 'gen_ai.evaluation.result'
),

keyed_results as (
    select
        *,
        attributes_of(fields, event) as attributes,
        list_concat(attributes_of(fields, event), attributes_around) as shared,
        coalesce(
            time_of(event ->> '$.timeUnixNano'),
            time_of(event ->> '$.time'),
            time_of(event ->> '$.timestamp'),
            time_of(event ->> '$.observedTimeUnixNano')
        ) as happened
    from results
),

given as (
    select
        *,
        list_transform(attributes, lambda each: each.key) as names,
        list_transform(shared, lambda each: each.key) as shared_names
    from keyed_results
),

judged as (
    select
        *,
        name_of(value_of(attributes, names, 'gen_ai.evaluation.name')) as judge,
        value_of(attributes, names, 'error.type') is not null as has_failed,
        case
            when lower(value_of(attributes, names, 'gen_ai.evaluation.score.label')."stringValue")
                in ('pass', 'passed', 'true', 'yes', 'correct') then true
            when lower(value_of(attributes, names, 'gen_ai.evaluation.score.label')."stringValue")
                in ('fail', 'failed', 'false', 'no', 'incorrect') then false
        end as is_passed,
        make_timestamptz(coalesce(happened, ended) // 1000) as moment
    from given
)

select
    case when is_odd then 'malformed_span' when moment is null then 'span_without_time' end as reason,
    file,
    "index",
    identity_of(
        list_concat(['otel', trace, span, happened::varchar, judge], if(place > 0, [place::varchar], []))
    ) as evaluation_id,
    moment as created_at,
    moment as updated_at,
    coalesce(
        name_of(value_of(shared, shared_names, 'gen_ai.provider.name')),
        name_of(value_of(shared, shared_names, 'gen_ai.system')),
        name_of(value_of(shared, shared_names, 'llm.provider')),
        name_of(value_of(shared, shared_names, 'llm.system'))
    ) as provider_id,
    coalesce(
        name_of(value_of(shared, shared_names, 'gen_ai.response.model')),
        name_of(value_of(shared, shared_names, 'gen_ai.request.model')),
        name_of(value_of(shared, shared_names, 'llm.model_name'))
    ) as model_id,
    'opentelemetry' as framework,
    judge as technique,
    name_of(value_of(attributes, names, 'gen_ai.response.id')) as behaviour_id,
    1 as iterations,
    not is_passed as successes,
    judge,
    case when is_passed is not null then 'completed' when has_failed then 'error' else 'undetermined' end as status,
    is_passed as passes,
    has_failed as errors,
    is_passed is null and not has_failed as undetermined,
    number_of(value_of(attributes, names, 'gen_ai.evaluation.score.value')) as score,
    'benchmark' as evaluation_kind
from judged
where reason is not null or moment < getvariable('window_end')
