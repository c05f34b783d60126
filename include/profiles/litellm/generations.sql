-- One row per call that LiteLLM logged, whatever its kind: chat, embedding, tool, file.
--
-- Times are UTC in columns without a zone. "endTime" has no index, so "startTime" is bounded as well, for calls of at most two hours
-- (a request's own timeout is 6,000 s by default). updated_at of the table itself is not used: installations older than 2026-08-18 do not
-- have it, and on the day of the upgrade all rows have the same.
-- No messages, response or proxy_server_request, no error's message: of metadata, the status and the error's class alone.
select
    spend_logs.request_id as generation_id,
    spend_logs."startTime" at time zone 'UTC' as created_at,
    spend_logs."endTime" at time zone 'UTC' as updated_at,
    coalesce(nullif(spend_logs.end_user, ''), nullif(spend_logs."user", '')) as user_id,
    nullif(spend_logs.session_id, '') as session_id,
    spend_logs.request_id as request_id,
    nullif(spend_logs.custom_llm_provider, '') as provider_id,
    -- As in its own daily tables, what was called; the group is the name by which it was asked for.
    coalesce(nullif(spend_logs.model, ''), nullif(spend_logs.model_group, '')) as model_id,
    spend_logs.prompt_tokens,
    spend_logs.completion_tokens,
    coalesce(
        cast(spend_logs.request_duration_ms as double precision),
        cast(extract(epoch from spend_logs."endTime" - spend_logs."startTime") * 1000 as double precision)
    ) as latency_ms,
    -- A call that is not streamed has its end there.
    case
        when spend_logs."completionStartTime" < spend_logs."endTime"
            then cast(extract(epoch from spend_logs."completionStartTime" - spend_logs."startTime") * 1000 as double precision)
    end as ttft_ms,
    case when outcome.has_failed then 'failed' else 'succeeded' end as status,
    case
        when outcome.has_failed
            then case jsonb_typeof(spend_logs.metadata)
                when 'object'
                    then coalesce(
                        nullif(spend_logs.metadata #>> '{error_information,error_class}', ''),
                        nullif(spend_logs.metadata #>> '{error_information,error_code}', '')
                    )
                when 'string' -- JSON inside a string
                    then substring(spend_logs.metadata #>> '{}' from '"error_class": *"(\w{1,100})"')
            end
    end as error_code,
    case
        when spend_logs.request_tags = '[]' then '{}'
        when jsonb_typeof(spend_logs.request_tags) = 'array'
            then array(
                select tags.tag
                from jsonb_array_elements_text(spend_logs.request_tags) as tags (tag)
                where tags.tag not like 'User-Agent:%' -- which LiteLLM adds by itself
            )
    end as techniques,
    -- Its arithmetic is in floating point: 0.00022500000000000002.
    round(cast(spend_logs.spend as numeric), 9) as cost_usd
-- Columns that an older installation lacks: a name that the table does not have is this one.
from (
    select
        cast(null as text) as session_id,
        cast(null as text) as status,
        cast(null as integer) as request_duration_ms
) as missing
cross join lateral (
    select
        request_id, "startTime", "endTime", "completionStartTime", "user", end_user, session_id, custom_llm_provider, model,
        model_group, prompt_tokens, completion_tokens, request_duration_ms, spend, status, metadata, request_tags
    from "LiteLLM_SpendLogs"
    where "startTime" >= (:lower - interval '2 hours') at time zone 'UTC' and "startTime" < :upper at time zone 'UTC'
) as spend_logs
cross join lateral (
    select
        coalesce(
            nullif(spend_logs.status, ''),
            case jsonb_typeof(spend_logs.metadata)
                when 'object' then spend_logs.metadata ->> 'status'
                when 'string' then substring(spend_logs.metadata #>> '{}' from '"status": *"(\w+)"')
            end
        ) is not distinct from 'failure' as has_failed
) as outcome
