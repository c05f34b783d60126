with provider_hours as (

    select
        *,
        left(_window_hour, 8) as _window_day
    from {{ ref('agg_provider_hourly') }}
    where {{ touched('_window_hour') }}

),

generations as (

    select
        *,
        left(_window_hour, 8) as _window_day
    from {{ ref('fct_generations') }}
    where {{ touched('_window_hour') }}

),

sum_hours as (

    select
        _window_day,
        provider_id,
        model_id,
        cast(sum(request_count) as bigint) as request_count,
        cast(sum(succeeded_count) as bigint) as succeeded_count,
        cast(sum(failed_count) as bigint) as failed_count,
        cast(sum(filtered_count) as bigint) as filtered_count,
        cast(sum(prompt_tokens) as bigint) as prompt_tokens,
        cast(sum(completion_tokens) as bigint) as completion_tokens,
        cast(sum(cost_usd) as decimal(38, 9)) as cost_usd,
        sum(availability_ratio * availability_sample_count)
        / nullif(sum(availability_sample_count), 0) as availability_ratio
    from provider_hours
    group by _window_day, provider_id, model_id

),

count_users as (

    select
        _window_day,
        provider_id,
        model_id,
        count(distinct user_id) as user_count
    from generations
    group by _window_day, provider_id, model_id

),

joined as (

    select
        -- ids
        hours.provider_id,
        hours.model_id,

        -- numerics
        hours.request_count,
        hours.succeeded_count,
        hours.failed_count,
        hours.filtered_count,
        coalesce(counted.user_count, 0) as user_count,
        hours.prompt_tokens,
        hours.completion_tokens,
        hours.cost_usd,
        hours.availability_ratio,

        -- dates
        {{ date_of_day('hours._window_day') }} as usage_date,

        -- lineage
        hours._window_day
    from sum_hours as hours
    left join count_users as counted
        on
            hours._window_day = counted._window_day
            and hours.provider_id = counted.provider_id
            and hours.model_id = counted.model_id

)

select * from joined
