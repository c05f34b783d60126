select
    hour_started_at,
    provider_id,
    model_id,
    request_count,
    p50_latency_ms,
    p95_latency_ms,
    p99_latency_ms,
    p50_ttft_ms,
    p95_ttft_ms
from gold.agg_provider_hourly
where _window_hour > $week_ago and p50_latency_ms is not null
order by hour_started_at desc, provider_id, model_id
