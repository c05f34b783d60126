-- One row per payload, of which a document may be a list. Times are seconds since 1970, or text in UTC; of metadata and of the error, names alone are read.
with documents as (
    select
        file,
        written_at,
        unnest(case when json_type(document) = 'ARRAY' then cast(document as json[]) else [document] end) as document
    from source
),

payloads as (
    select
        *,
        document ->> '$.status' as outcome,
        coalesce(
            to_timestamp(try_cast(document ->> '$.startTime' as double)),
            try_cast((document ->> '$.startTime') || '+00' as timestamptz),
            try_cast(document ->> '$.startTime' as timestamptz)
        ) as started,
        coalesce(
            to_timestamp(try_cast(document ->> '$.endTime' as double)),
            try_cast((document ->> '$.endTime') || '+00' as timestamptz),
            try_cast(document ->> '$.endTime' as timestamptz)
        ) as ended,
        coalesce(
            to_timestamp(try_cast(document ->> '$.completionStartTime' as double)),
            try_cast((document ->> '$.completionStartTime') || '+00' as timestamptz),
            try_cast(document ->> '$.completionStartTime' as timestamptz)
        ) as first_token
    from documents
)

select
    document ->> '$.id' as generation_id,
    started as created_at,
    ended as updated_at,
    coalesce(nullif(document ->> '$.end_user', ''), document ->> '$.metadata.user_api_key_user_id') as user_id,
    document ->> '$.metadata.session_id' as session_id,
    coalesce(document ->> '$.trace_id', document ->> '$.id') as request_id,
    nullif(document ->> '$.custom_llm_provider', '') as provider_id,
    coalesce(nullif(document ->> '$.model', ''), nullif(document ->> '$.model_group', '')) as model_id,
    try_cast(document ->> '$.prompt_tokens' as bigint) as prompt_tokens,
    try_cast(document ->> '$.completion_tokens' as bigint) as completion_tokens,
    epoch_us(ended) / 1000 - epoch_us(started) / 1000 as latency_ms,
    case when first_token < ended then epoch_us(first_token) / 1000 - epoch_us(started) / 1000 end as ttft_ms,
    case outcome when 'success' then 'succeeded' when 'failure' then 'failed' else outcome end as status,
    case when outcome = 'failure' then nullif(document ->> '$.error_information.error_class', '') end as error_code,
    list_filter(
        try_cast(document -> '$.request_tags' as varchar[]), lambda tag: not starts_with(tag, 'User-Agent:')
    ) as techniques,
    try_cast(round(try_cast(document ->> '$.response_cost' as double), 9) as decimal(18, 9)) as cost_usd,
    file,
    written_at
from payloads
