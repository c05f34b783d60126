with evaluations as (

    select
        *,
        left(_window_hour, 8) as _window_day
    from {{ ref('fct_evaluations') }}
    where {{ touched('_window_hour') }}

),

aggregated as (

    select
        -- ids
        technique,
        provider_id,
        model_id,

        -- numerics
        count(*) as evaluation_count,
        count(is_successful) as judged_count,
        count(*) filter (where is_successful) as successful_count,
        cast(sum(iteration_count) as bigint) as iteration_count,

        -- dates
        created_date as evaluation_date,

        -- lineage
        _window_day
    from evaluations
    group by _window_day, created_date, technique, provider_id, model_id

)

select * from aggregated
