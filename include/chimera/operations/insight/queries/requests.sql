select
    usage_date,
    provider_id,
    sum(request_count) as request_count,
    sum(succeeded_count) as succeeded_count,
    sum(filtered_count) as filtered_count,
    sum(failed_count) as failed_count,
    sum(succeeded_count) / nullif(sum(request_count), 0) as success_ratio
from gold.agg_usage_daily
where _window_day > $four_weeks_ago
group by usage_date, provider_id
order by usage_date, provider_id
