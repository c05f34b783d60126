with technique_days as (

    select * from {{ ref('agg_technique_daily') }}
    where coalesce(evaluation_kind, 'attack') = 'attack'

),

sum_days as (

    select
        technique,
        model_id,
        cast(sum(evaluation_count) as bigint) as evaluation_count,
        cast(sum(judged_count) as bigint) as judged_count,
        cast(sum(successful_count) as bigint) as successful_count,
        cast(sum(iteration_count) as bigint) as iteration_count,
        min(evaluation_date) as first_evaluation_date,
        max(evaluation_date) as last_evaluation_date
    from technique_days
    group by technique, model_id

),

add_ratio as (

    select
        *,
        successful_count / nullif(judged_count, 0) as attack_success_ratio
    from sum_days

),

final as (

    select
        -- ids
        technique,
        model_id,

        -- numerics
        evaluation_count,
        judged_count,
        successful_count,
        iteration_count,
        attack_success_ratio,
        {{ wilson_lower('attack_success_ratio', 'judged_count') }} as attack_success_lower_ratio,
        {{ wilson_upper('attack_success_ratio', 'judged_count') }} as attack_success_upper_ratio,

        -- dates
        first_evaluation_date,
        last_evaluation_date
    from add_ratio

)

select * from final
