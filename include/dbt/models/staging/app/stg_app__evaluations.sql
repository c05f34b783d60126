with source as (

    select * from {{ source('app', 'evaluations') }}
    where {{ arrived('_window_hour', source('app', 'evaluations')) }}

),

renamed as (

    select
        -- ids
        evaluation_id,
        coalesce(provider_id, 'unknown') as provider_id,
        coalesce(model_id, 'unknown') as model_id,
        behaviour_id,

        -- strings
        framework,
        coalesce(technique, 'unknown') as technique,
        judge,
        status,

        -- numerics
        iterations as iteration_count,
        successes as success_count,

        -- booleans
        successes > 0 as is_successful,

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
        partition by evaluation_id
        order by updated_at desc, _row_hash desc
    ) = 1

)

select * from keep_newest
