select
    usage_date,
    provider_id,
    sum(prompt_tokens) as prompt_tokens,
    sum(completion_tokens) as completion_tokens,
    coalesce(
        sum(request_count) filter (where prompt_tokens is null or completion_tokens is null), 0
    ) as uncounted_request_count
from gold.agg_usage_daily
where _window_day > $four_weeks_ago
group by usage_date, provider_id
order by usage_date, provider_id
