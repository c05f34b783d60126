with source as (

    select * from {{ source('app', 'generations') }}
    where {{ arrived('_window_hour', source('app', 'generations')) }}

),

renamed as (

    select
        -- ids
        generation_id,
        user_id,
        session_id,
        request_id,
        coalesce(provider_id, 'unknown') as provider_id,
        coalesce(model_id, 'unknown') as model_id,

        -- strings
        status,
        error_code,
        techniques,

        -- numerics
        prompt_tokens,
        completion_tokens,
        latency_ms,
        ttft_ms,
        cost_usd,

        -- booleans
        status = 'succeeded' as is_succeeded,

        -- timestamps
        created_at,
        updated_at,

        -- lineage
        _row_hash,
        _is_deleted,
        {{ hour_of('created_at') }} as _window_hour
    from source

),

candidates as (

    select * from renamed
    where {{ touched('_window_hour') }}
    {% if is_incremental() %}
        {{ union_by_name() }}

        select * from {{ in_session(this) }}
        where {{ touched('_window_hour') }}
    {% endif %}

),

keep_newest as (

    {{ newest('candidates', key='generation_id', by=['updated_at', '_row_hash']) }}

)

select * from keep_newest
