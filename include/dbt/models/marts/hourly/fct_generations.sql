with generations as (

    select * from {{ ref('stg_app__generations') }}
    where
        _is_deleted is not true
        and {{ touched('_window_hour') }}

),

final as (

    select
        -- ids
        generation_id,
        user_id,
        session_id,
        request_id,
        provider_id,
        model_id,

        -- strings
        status,
        error_code,
        techniques,

        -- numerics
        prompt_tokens,
        completion_tokens,
        prompt_tokens + completion_tokens as total_tokens,
        latency_ms,
        ttft_ms,
        cost_usd,

        -- booleans
        is_succeeded,

        -- dates
        {{ date_of('created_at') }} as created_date,

        -- timestamps
        created_at,
        updated_at,

        -- lineage
        _window_hour
    from generations

)

select * from final
