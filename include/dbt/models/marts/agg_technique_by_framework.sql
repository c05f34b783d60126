with technique_days as (

    select * from {{ ref('agg_technique_daily') }}

),

-- days of a release that did not tell frameworks apart judged whole evaluations
fill_older_days as (

    select
        coalesce(framework, 'unknown') as framework,
        technique,
        model_id,
        coalesce(evaluation_kind, 'attack') as evaluation_kind,
        evaluation_count,
        coalesce(trial_count, nullif(judged_count, 0)) as trial_count,
        coalesce(successful_trial_count, case when judged_count > 0 then successful_count end)
            as successful_trial_count,
        error_count,
        undetermined_count,
        score_sum,
        scored_count,
        evaluation_date
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
        {{ wilson_lower('attack_success_ratio', 'trial_count') }} as attack_success_lower_ratio,
        {{ wilson_upper('attack_success_ratio', 'trial_count') }} as attack_success_upper_ratio,
        mean_score,
        scored_count,

        -- dates
        first_evaluation_date,
        last_evaluation_date
    from add_ratio

)

select * from final
