with weeks as (
    select
        technique,
        model_id,
        sum(coalesce(trial_count, nullif(judged_count, 0)))
            filter (where _window_day > $week_ago) as trial_count_now,
        sum(coalesce(trial_count, nullif(judged_count, 0)))
            filter (where _window_day <= $week_ago) as trial_count_before,
        sum(
            coalesce(successful_trial_count, case when judged_count > 0 then successful_count end)
        ) filter (where _window_day > $week_ago) as successful_trial_count_now,
        sum(
            coalesce(successful_trial_count, case when judged_count > 0 then successful_count end)
        ) filter (where _window_day <= $week_ago) as successful_trial_count_before
    from gold.agg_technique_daily
    where _window_day > $two_weeks_ago and coalesce(evaluation_kind, 'attack') = 'attack'
    group by technique, model_id
)

select
    technique,
    model_id,
    trial_count_now,
    trial_count_before,
    successful_trial_count_now / nullif(trial_count_now, 0) as attack_success_ratio_now,
    successful_trial_count_before / nullif(trial_count_before, 0) as attack_success_ratio_before
from weeks
where trial_count_now > 0 or trial_count_before > 0
order by
    abs(attack_success_ratio_now - attack_success_ratio_before) desc nulls last,
    technique,
    model_id
