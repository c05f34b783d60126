with source as (

    select * from {{ source('prometheus', 'provider_metrics') }}
    where {{ touched('_window_hour') }}

),

renamed as (

    select
        -- ids
        series_id,
        nullif(provider_id, '') as provider_id,
        nullif(model_id, '') as model_id,

        -- strings
        metric as metric_name,

        -- numerics
        le as bucket_upper_bound,
        case when not isnan(value) then value end as sample_value,

        -- timestamps
        sampled_at,

        -- lineage
        _window_hour
    from source

)

select * from renamed
