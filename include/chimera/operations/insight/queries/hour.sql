select
    provider_id,
    model_id,
    sum(request_count) filter (where _window_hour = $newest) as request_count_now,
    sum(request_count) filter (where _window_hour = $day_ago) as request_count_before,
    sum(failed_count) filter (where _window_hour = $newest) as failed_count_now,
    sum(failed_count) filter (where _window_hour = $day_ago) as failed_count_before,
    sum(filtered_count) filter (where _window_hour = $newest) as filtered_count_now,
    sum(filtered_count) filter (where _window_hour = $day_ago) as filtered_count_before,
    min(availability_ratio) filter (where _window_hour = $newest) as availability_ratio_now,
    min(availability_ratio) filter (where _window_hour = $day_ago) as availability_ratio_before
from gold.agg_provider_hourly
where _window_hour between $day_ago and $newest and _window_hour in ($newest, $day_ago)
group by grouping sets ((), (provider_id, model_id))
order by
    grouping(provider_id) desc,
    coalesce(request_count_now, 0) - coalesce(request_count_before, 0),
    provider_id,
    model_id
