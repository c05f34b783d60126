with samples as (

    select * from {{ ref('stg_prometheus__provider_samples') }}
    where
        metric_name = 'llm_provider_up'
        and provider_id is not null
        and sample_value is not null

),

average_by_model as (

    select
        _window_hour,
        provider_id,
        model_id,
        avg(sample_value) as availability_ratio,
        count(*) as availability_sample_count
    from samples
    where model_id is not null
    group by _window_hour, provider_id, model_id

),

average_by_provider as (

    select
        _window_hour,
        provider_id,
        null as model_id,
        avg(sample_value) as availability_ratio,
        count(*) as availability_sample_count
    from samples
    group by _window_hour, provider_id

),

unioned as (

    select * from average_by_model
    union all
    select * from average_by_provider

)

select * from unioned
