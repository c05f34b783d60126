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
        strftime(created_at at time zone 'UTC', '%Y%m%dT%H') as _window_hour
    from source

),

candidates as (

    select * from renamed
    where {{ touched('_window_hour') }}
    {% if is_incremental() %}
        union all by name

        select * from {{ this }}
        where {{ touched('_window_hour') }}
    {% endif %}

),

keep_newest as (

    select * from candidates
    qualify row_number() over (
        partition by generation_id
        order by updated_at desc, _row_hash desc
    ) = 1

)

select * from keep_newest
