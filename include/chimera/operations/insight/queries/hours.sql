select
    hour_started_at,
    provider_id,
    sum(request_count) as request_count,
    sum(failed_count) as failed_count
from gold.agg_provider_hourly
where _window_hour > $week_ago
group by hour_started_at, provider_id
order by hour_started_at desc, provider_id
