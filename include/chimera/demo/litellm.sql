-- What LiteLLM would have logged of the sample application's calls. May be repeated.
insert into "LiteLLM_ProxyModelTable" (
    model_id, model_name, litellm_params, model_info, updated_at, created_by, updated_by, blocked
)
select
    md5(models.model_id), models.model_id, '{"model": "encrypted"}',
    jsonb_strip_nulls(
        jsonb_build_object(
            'litellm_provider', models.provider_id,
            'input_cost_per_token', models.input_usd_per_mtok / 1e6,
            'output_cost_per_token', models.output_usd_per_mtok / 1e6,
            'max_input_tokens', models.context_tokens
        )
    ),
    models.updated_at at time zone 'UTC', 'sample', 'sample', not coalesce(models.is_enabled, true)
from app.models as models
on conflict (model_id) do nothing;

insert into "LiteLLM_SpendLogs" (
    request_id, call_type, "startTime", "endTime", "completionStartTime", request_duration_ms, model, model_group,
    custom_llm_provider, "user", session_id, prompt_tokens, completion_tokens, total_tokens, spend, status, metadata, request_tags,
    cache_hit, messages, response
)
select
    'chatcmpl-' || calls.generation_id, 'acompletion', calls.started, calls.ended,
    coalesce(calls.started + calls.ttft_ms * interval '1 ms', calls.ended), round(calls.latency_ms), coalesce(calls.model_id, ''),
    coalesce(calls.model_id, ''), calls.provider_id, coalesce(calls.user_id, ''), calls.session_id, coalesce(calls.prompt_tokens, 0),
    coalesce(calls.completion_tokens, 0), coalesce(calls.prompt_tokens, 0) + coalesce(calls.completion_tokens, 0),
    coalesce(calls.cost_usd, 0), calls.outcome,
    jsonb_build_object('status', calls.outcome, 'error_information', jsonb_build_object('error_class', calls.error_code)),
    to_jsonb(coalesce(calls.techniques, '{}')), 'False',
    '[{"role": "user", "content": "a prompt, which stays here"}]', '{"content": "an answer, which stays here"}'
from (
    select
        *,
        created_at at time zone 'UTC' as started,
        (created_at + coalesce(latency_ms, 0) * interval '1 ms') at time zone 'UTC' as ended,
        case when status = 'succeeded' then 'success' else 'failure' end as outcome
    from app.generations
) as calls
on conflict (request_id) do nothing;
