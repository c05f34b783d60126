select
    usage_date,
    provider_id,
    model_id,
    availability_ratio
from gold.agg_usage_daily
where _window_day > $four_weeks_ago and availability_ratio is not null
order by usage_date, provider_id, model_id
