select
    usage_date,
    provider_id,
    model_id,
    cost_usd,
    request_count,
    prompt_tokens,
    completion_tokens
from gold.agg_usage_daily
where _window_day > $four_weeks_ago
order by usage_date, provider_id, model_id
