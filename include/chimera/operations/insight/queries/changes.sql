select
    provider_id,
    model_id,
    count(distinct _window_hour) filter (where _window_hour > $week_ago) as hour_count_now,
    count(distinct _window_hour) filter (where _window_hour <= $week_ago) as hour_count_before,
    sum(cost_usd) filter (where _window_hour > $week_ago) as cost_usd_now,
    sum(cost_usd) filter (where _window_hour <= $week_ago) as cost_usd_before,
    sum(request_count) filter (where _window_hour > $week_ago) as request_count_now,
    sum(request_count) filter (where _window_hour <= $week_ago) as request_count_before,
    sum(succeeded_count) filter (where _window_hour > $week_ago)
    / nullif(sum(request_count) filter (where _window_hour > $week_ago), 0) as success_ratio_now,
    sum(succeeded_count) filter (where _window_hour <= $week_ago)
    / nullif(sum(request_count) filter (where _window_hour <= $week_ago), 0)
        as success_ratio_before,
    sum(availability_ratio * availability_sample_count) filter (where _window_hour > $week_ago)
    / nullif(sum(availability_sample_count) filter (where _window_hour > $week_ago), 0)
        as availability_ratio_now,
    sum(availability_ratio * availability_sample_count) filter (where _window_hour <= $week_ago)
    / nullif(sum(availability_sample_count) filter (where _window_hour <= $week_ago), 0)
        as availability_ratio_before
from gold.agg_provider_hourly
where _window_hour > $two_weeks_ago
group by grouping sets ((), (provider_id), (provider_id, model_id))
order by grouping(provider_id) desc, provider_id, grouping(model_id) desc, model_id
