with evaluations as (

    select * from {{ ref('stg_app__evaluations') }}
    where
        _is_deleted is not true
        and {{ touched('_window_hour') }}

),

final as (

    select
        -- ids
        evaluation_id,
        provider_id,
        model_id,
        behaviour_id,

        -- strings
        framework,
        technique,
        judge,
        status,

        -- numerics
        iteration_count,
        success_count,

        -- booleans
        is_successful,

        -- dates
        cast(created_at at time zone 'UTC' as date) as created_date,

        -- timestamps
        created_at,
        updated_at,

        -- lineage
        _window_hour
    from evaluations

)

select * from final
