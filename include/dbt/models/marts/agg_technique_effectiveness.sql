{# The 97.5 % point of the standard normal distribution, for a two-sided 95 % interval. #}
{% set z = 1.959963984540054 %}

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

-- Source: E. B. Wilson, JASA 22 (1927): centre and half-width of the score interval
add_interval as (

    select
        *,
        (attack_success_ratio + {{ z }} * {{ z }} / (2 * judged_count))
        / (1 + {{ z }} * {{ z }} / judged_count) as wilson_centre,
        {{ z }} * sqrt(
            attack_success_ratio * (1 - attack_success_ratio) / judged_count
            + {{ z }} * {{ z }} / (4.0 * judged_count * judged_count)
        ) / (1 + {{ z }} * {{ z }} / judged_count) as wilson_half_width
    from add_ratio

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
        case when judged_count > 0 then round(greatest(wilson_centre - wilson_half_width, 0), 9) end
            as attack_success_lower_ratio,
        case when judged_count > 0 then round(least(wilson_centre + wilson_half_width, 1), 9) end
            as attack_success_upper_ratio,

        -- dates
        first_evaluation_date,
        last_evaluation_date
    from add_interval

)

select * from final
