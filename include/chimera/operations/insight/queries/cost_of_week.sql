select
    provider_id,
    model_id,
    sum(cost_usd) as cost_usd,
    sum(request_count) as request_count,
    coalesce(sum(request_count) filter (where cost_usd is null), 0) as unpriced_request_count,
    sum(succeeded_count) / nullif(sum(request_count), 0) as success_ratio,
    sum(prompt_tokens) as prompt_tokens,
    sum(completion_tokens) as completion_tokens
from gold.agg_usage_daily
where _window_day > $week_ago
group by grouping sets ((), (provider_id), (provider_id, model_id))
order by
    grouping(provider_id) desc,
    sum(sum(cost_usd)) over (partition by grouping(provider_id), provider_id) desc nulls last,
    provider_id,
    grouping(model_id) desc,
    cost_usd desc nulls last,
    model_id
