with generations as (

    select * from {{ ref('stg_app__generations') }}
    where _is_deleted is not true

),

aggregated as (

    select
        _window_hour,
        provider_id,
        model_id,

        -- counts
        count(*) as request_count,
        count(*) filter (where is_succeeded) as succeeded_count,
        count(*) filter (where status = 'failed') as failed_count,
        count(*) filter (where status = 'filtered') as filtered_count,

        -- latency of successes
        {{ quantile('latency_ms', 0.50) }} filter (where is_succeeded) as p50_latency_ms,
        {{ quantile('latency_ms', 0.95) }} filter (where is_succeeded) as p95_latency_ms,
        {{ quantile('latency_ms', 0.99) }} filter (where is_succeeded) as p99_latency_ms,
        {{ quantile('ttft_ms', 0.50) }} filter (where is_succeeded) as p50_ttft_ms,
        {{ quantile('ttft_ms', 0.95) }} filter (where is_succeeded) as p95_ttft_ms,
        {{ quantile('ttft_ms', 0.99) }} filter (where is_succeeded) as p99_ttft_ms,

        -- sums; of bigint DuckDB makes hugeint, which Delta does not know
        cast(sum(prompt_tokens) as bigint) as prompt_tokens,
        cast(sum(completion_tokens) as bigint) as completion_tokens,
        cast(sum(cost_usd) as decimal(38, 9)) as cost_usd
    from generations
    group by _window_hour, provider_id, model_id

)

select * from aggregated
