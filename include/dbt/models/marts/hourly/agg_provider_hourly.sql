with requests as (

    select * from {{ ref('int_generations_aggregated_hourly') }}
    where {{ touched('_window_hour') }}

),

availability as (

    select * from {{ ref('int_provider_availability_hourly') }}
    where {{ touched('_window_hour') }}

),

list_used_or_watched_models as (

    select
        _window_hour,
        provider_id,
        model_id
    from requests
    union distinct
    select
        _window_hour,
        provider_id,
        model_id
    from availability
    where model_id is not null

),

add_idle_providers as (

    select
        _window_hour,
        provider_id,
        model_id
    from list_used_or_watched_models
    union distinct
    select
        availability._window_hour,
        availability.provider_id,
        'unknown' as model_id
    from availability
    left join list_used_or_watched_models as named
        on
            availability._window_hour = named._window_hour
            and availability.provider_id = named.provider_id
    where named.provider_id is null

),

joined as (

    select
        -- ids
        spine.provider_id,
        spine.model_id,

        -- numerics
        coalesce(requests.request_count, 0) as request_count,
        coalesce(requests.succeeded_count, 0) as succeeded_count,
        coalesce(requests.failed_count, 0) as failed_count,
        coalesce(requests.filtered_count, 0) as filtered_count,
        requests.succeeded_count / requests.request_count as success_ratio,
        requests.p50_latency_ms,
        requests.p95_latency_ms,
        requests.p99_latency_ms,
        requests.p50_ttft_ms,
        requests.p95_ttft_ms,
        requests.p99_ttft_ms,
        requests.prompt_tokens,
        requests.completion_tokens,
        requests.cost_usd,
        coalesce(of_model.availability_ratio, of_provider.availability_ratio)
            as availability_ratio,
        coalesce(of_model.availability_sample_count, of_provider.availability_sample_count, 0)
            as availability_sample_count,

        -- timestamps
        {{ start_of('spine._window_hour') }} as hour_started_at,

        -- lineage
        spine._window_hour
    from add_idle_providers as spine
    left join requests
        on
            spine._window_hour = requests._window_hour
            and spine.provider_id = requests.provider_id
            and spine.model_id = requests.model_id
    left join availability as of_model
        on
            spine._window_hour = of_model._window_hour
            and spine.provider_id = of_model.provider_id
            and spine.model_id = of_model.model_id
    left join availability as of_provider
        on
            spine._window_hour = of_provider._window_hour
            and spine.provider_id = of_provider.provider_id
            and of_provider.model_id is null

)

select * from joined
