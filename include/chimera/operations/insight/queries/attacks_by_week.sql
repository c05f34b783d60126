with weeks as (
    select
        cast(date_trunc('week', evaluation_date) as date) as week_date,
        technique,
        model_id,
        sum(coalesce(trial_count, nullif(judged_count, 0))) as trial_count,
        sum(
            coalesce(successful_trial_count, case when judged_count > 0 then successful_count end)
        ) as successful_trial_count
    from gold.agg_technique_daily
    where _window_day > $twelve_weeks_ago and coalesce(evaluation_kind, 'attack') = 'attack'
    group by week_date, technique, model_id
),

rates as (
    select
        *,
        successful_trial_count / trial_count as attack_success_ratio,
        1.959963984540054 as z
    from weeks
    where trial_count > 0
),

-- the 95 % score interval of E. B. Wilson, as in the tables
intervals as (
    select
        *,
        (attack_success_ratio + z * z / (2 * trial_count)) / (1 + z * z / trial_count) as centre,
        z * sqrt(
            attack_success_ratio * (1 - attack_success_ratio) / trial_count
            + z * z / (4 * trial_count * trial_count)
        ) / (1 + z * z / trial_count) as half_width
    from rates
)

select
    week_date,
    technique,
    model_id,
    trial_count,
    successful_trial_count,
    attack_success_ratio,
    greatest(centre - half_width, 0) as attack_success_lower_ratio,
    least(centre + half_width, 1) as attack_success_upper_ratio
from intervals
order by week_date desc, technique, model_id
