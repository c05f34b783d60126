{{ config(on_schema_change="append_new_columns") }}

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

        -- strings
        coalesce(framework, 'unknown') as framework,
        coalesce(evaluation_kind, 'attack') as evaluation_kind,

        -- numerics
        count(*) as evaluation_count,
        count(is_successful) as judged_count,
        count(*) filter (where is_successful) as successful_count,
        cast(sum(iteration_count) as bigint) as iteration_count,
        cast(sum(trial_count) as bigint) as trial_count,
        cast(sum(successful_trial_count) as bigint) as successful_trial_count,
        cast(sum(error_count) as bigint) as error_count,
        cast(sum(undetermined_count) as bigint) as undetermined_count,
        sum(score * coalesce(iteration_count, 1)) as score_sum,
        cast(sum(coalesce(iteration_count, 1)) filter (where score is not null) as bigint)
            as scored_count,

        -- dates
        created_date as evaluation_date,

        -- lineage
        _window_day
    from evaluations
    group by
        _window_day,
        created_date,
        technique,
        provider_id,
        model_id,
        coalesce(framework, 'unknown'),
        coalesce(evaluation_kind, 'attack')

)

select * from aggregated
