{# The 97.5 % point of the standard normal distribution, for a two-sided 95 % interval. #}
{% set z = 1.959963984540054 %}

with technique_days as (

    select * from {{ ref('agg_technique_daily') }}

),

-- days of a release that did not tell frameworks apart judged whole evaluations
fill_older_days as (

    select
        * replace (
            coalesce(framework, 'unknown') as framework,
            coalesce(evaluation_kind, 'attack') as evaluation_kind,
            coalesce(trial_count, nullif(judged_count, 0)) as trial_count,
            coalesce(successful_trial_count, case when judged_count > 0 then successful_count end)
                as successful_trial_count
        )
    from technique_days

),

sum_days as (

    select
        framework,
        technique,
        model_id,
        evaluation_kind,
        cast(sum(evaluation_count) as bigint) as evaluation_count,
        cast(coalesce(sum(trial_count), 0) as bigint) as trial_count,
        cast(coalesce(sum(successful_trial_count), 0) as bigint) as successful_trial_count,
        cast(sum(error_count) as bigint) as error_count,
        cast(sum(undetermined_count) as bigint) as undetermined_count,
        sum(score_sum) / nullif(sum(scored_count), 0) as mean_score,
        cast(sum(scored_count) as bigint) as scored_count,
        min(evaluation_date) as first_evaluation_date,
        max(evaluation_date) as last_evaluation_date
    from fill_older_days
    group by framework, technique, model_id, evaluation_kind

),

add_ratio as (

    select
        *,
        case
            when evaluation_kind = 'attack' then successful_trial_count / nullif(trial_count, 0)
        end as attack_success_ratio
    from sum_days

),

-- Source: E. B. Wilson, JASA 22 (1927): centre and half-width of the score interval
add_interval as (

    select
        *,
        (attack_success_ratio + {{ z }} * {{ z }} / (2 * trial_count))
        / (1 + {{ z }} * {{ z }} / trial_count) as wilson_centre,
        {{ z }} * sqrt(
            attack_success_ratio * (1 - attack_success_ratio) / trial_count
            + {{ z }} * {{ z }} / (4.0 * trial_count * trial_count)
        ) / (1 + {{ z }} * {{ z }} / trial_count) as wilson_half_width
    from add_ratio

),

final as (

    select
        -- ids
        framework,
        technique,
        model_id,

        -- strings
        evaluation_kind,

        -- numerics
        evaluation_count,
        trial_count,
        successful_trial_count,
        error_count,
        undetermined_count,
        attack_success_ratio,
        -- greatest and least leave nulls out
        case
            when attack_success_ratio is not null
                then round(greatest(wilson_centre - wilson_half_width, 0), 9)
        end as attack_success_lower_ratio,
        case
            when attack_success_ratio is not null
                then round(least(wilson_centre + wilson_half_width, 1), 9)
        end as attack_success_upper_ratio,
        mean_score,
        scored_count,

        -- dates
        first_evaluation_date,
        last_evaluation_date
    from add_interval

)

select * from final
