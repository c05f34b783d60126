-- One row per observation of the type GENERATION: of a trace as the API gives it, or of the export, one a line, whose names are in
-- snake_case and whose times are UTC without a zone.
with observations as (
    select
        written_at,
        unnest(
            case
                when json_type(document, '$.observations') = 'ARRAY' then cast(document -> '$.observations' as json[])
                else [document]
            end
        ) as found
    from source
),

named as (
    select
        written_at,
        found,
        coalesce(found ->> '$.startTime', found ->> '$.start_time') as started_text,
        coalesce(found ->> '$.endTime', found ->> '$.end_time', started_text) as ended_text,
        coalesce(found ->> '$.completionStartTime', found ->> '$.completion_start_time') as first_text
    from observations
    where found ->> '$.type' = 'GENERATION'
),

timed as (
    select
        *,
        coalesce(try_cast(started_text || '+00' as timestamptz), try_cast(started_text as timestamptz)) as started,
        coalesce(try_cast(ended_text || '+00' as timestamptz), try_cast(ended_text as timestamptz)) as ended,
        coalesce(try_cast(first_text || '+00' as timestamptz), try_cast(first_text as timestamptz)) as first_token
    from named
)

select
    found ->> '$.id' as generation_id,
    started as created_at,
    ended as updated_at,
    found ->> '$.user_id' as user_id,
    found ->> '$.session_id' as session_id,
    coalesce(found ->> '$.traceId', found ->> '$.trace_id') as request_id,
    coalesce(found ->> '$.model', found ->> '$.provided_model_name') as model_id,
    coalesce(try_cast(found ->> '$.usageDetails.input' as bigint), try_cast(found ->> '$.usage_details.input' as bigint)) as prompt_tokens,
    coalesce(
        try_cast(found ->> '$.usageDetails.output' as bigint), try_cast(found ->> '$.usage_details.output' as bigint)
    ) as completion_tokens,
    epoch_us(ended) / 1000 - epoch_us(started) / 1000 as latency_ms,
    epoch_us(first_token) / 1000 - epoch_us(started) / 1000 as ttft_ms,
    case when found ->> '$.level' = 'ERROR' then 'failed' else 'succeeded' end as status,
    case when found ->> '$.level' = 'ERROR' then 'error' end as error_code,
    try_cast(
        round(coalesce(try_cast(found ->> '$.totalCost' as double), try_cast(found ->> '$.total_cost' as double)), 9) as decimal(18, 9)
    ) as cost_usd,
    written_at
from timed
