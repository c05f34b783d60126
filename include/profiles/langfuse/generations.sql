-- One row per call of a model (observations of the types GENERATION and EMBEDDING). Where they stand: in a trace or a list as the API gives
-- it, in a batch as SDKs and LiteLLM send it (what is told of a call in several events is merged), or, in the export, one a line, whose names
-- are in snake_case and whose times are UTC without a zone.
with documents as (
    select
        file,
        written_at,
        document,
        row_number() over () as place,
        case
            when json_type(document) = 'ARRAY' then cast(document as json[])
            when json_type(document, '$.observations') = 'ARRAY' then cast(document -> '$.observations' as json[])
            when json_type(document, '$.data') = 'ARRAY' then cast(document -> '$.data' as json[])
            when json_type(document, '$.batch') = 'ARRAY'
                then
                    list_transform(
                        list_filter(
                            cast(document -> '$.batch' as json[]),
                            lambda event: starts_with((event ->> '$.type'), 'generation-')
                            or (event ->> '$.body.type') in ('GENERATION', 'EMBEDDING')
                        ),
                        lambda event: json_merge_patch('{"type": "GENERATION"}', event -> '$.body')
                    )
            else [document]
        end as listed,
        case
            when json_type(document, '$.batch') = 'ARRAY'
                then
                    list_transform(
                        list_filter(cast(document -> '$.batch' as json[]), lambda event: (event ->> '$.type') = 'trace-create'),
                        lambda event: event -> '$.body'
                    )
            when json_type(document, '$.trace') = 'OBJECT' then [document -> '$.trace']
            when json_type(document, '$.observations') = 'ARRAY' then [document]
        end as traces
    from source
),

observations as (
    select
        file,
        written_at,
        place,
        traces,
        unnest(listed) as found
    from documents
),

merged as (
    select
        file,
        written_at,
        traces,
        list_reduce(list(found), lambda one, other: json_merge_patch(one, other)) as found
    from observations
    where (found ->> '$.type') in ('GENERATION', 'EMBEDDING')
    group by file, written_at, place, traces, found ->> '$.id'
),

named as (
    select
        file,
        written_at,
        found,
        list_filter(traces, lambda trace: (trace ->> '$.id') = (found ->> '$.traceId'))[1] as trace,
        coalesce(found ->> '$.startTime', found ->> '$.start_time') as started_text,
        coalesce(found ->> '$.endTime', found ->> '$.end_time', started_text) as ended_text,
        coalesce(found ->> '$.completionStartTime', found ->> '$.completion_start_time') as first_text
    from merged
),

timed as (
    select
        *,
        coalesce(try_cast(started_text || '+00' as timestamptz), try_cast(started_text as timestamptz)) as started,
        coalesce(try_cast(ended_text || '+00' as timestamptz), try_cast(ended_text as timestamptz)) as ended,
        coalesce(try_cast(first_text || '+00' as timestamptz), try_cast(first_text as timestamptz)) as first_token,
        list_transform(
            [['input', 'prompt'], ['output', 'completion']],
            lambda name: coalesce(
                try_cast(found ->> ('$.usageDetails.' || name[1]) as bigint),
                try_cast(found ->> ('$.usage_details.' || name[1]) as bigint),
                try_cast(found ->> ('$.usage.' || name[1]) as bigint),
                try_cast(found ->> ('$.usage.' || name[2] || 'Tokens') as bigint),
                try_cast(found ->> ('$.' || name[2] || 'Tokens') as bigint)
            )
        ) as tokens
    from named
)

select
    found ->> '$.id' as generation_id,
    started as created_at,
    ended as updated_at,
    coalesce(found ->> '$.user_id', found ->> '$.userId', trace ->> '$.userId') as user_id,
    coalesce(found ->> '$.session_id', found ->> '$.sessionId', trace ->> '$.sessionId') as session_id,
    coalesce(found ->> '$.traceId', found ->> '$.trace_id') as request_id,
    coalesce(found ->> '$.model', found ->> '$.provided_model_name', found ->> '$.providedModelName') as model_id,
    tokens[1] as prompt_tokens,
    tokens[2] as completion_tokens,
    epoch_us(ended) / 1000 - epoch_us(started) / 1000 as latency_ms,
    epoch_us(first_token) / 1000 - epoch_us(started) / 1000 as ttft_ms,
    case when (found ->> '$.level') = 'ERROR' then 'failed' else 'succeeded' end as status,
    case when (found ->> '$.level') = 'ERROR' then 'error' end as error_code,
    try_cast(
        round(
            coalesce(
                try_cast(found ->> '$.totalCost' as double),
                try_cast(found ->> '$.total_cost' as double),
                try_cast(found ->> '$.costDetails.total' as double),
                try_cast(found ->> '$.cost_details.total' as double),
                try_cast(found ->> '$.usage.totalCost' as double),
                try_cast(found ->> '$.calculatedTotalCost' as double)
            ),
            9
        ) as decimal(18, 9)
    ) as cost_usd,
    file,
    written_at
from timed
