with models as (

    select * from {{ ref('stg_app__models') }}

),

usage_days as (

    select * from {{ ref('agg_usage_daily') }}
    where request_count > 0

),

technique_days as (

    select * from {{ ref('agg_technique_daily') }}

),

list_active_days as (

    select
        model_id,
        provider_id,
        usage_date as active_date
    from usage_days
    union all
    select
        model_id,
        provider_id,
        evaluation_date as active_date
    from technique_days

),

find_first_and_last_day as (

    select
        model_id,
        case when count(distinct provider_id) = 1 then min(provider_id) end as provider_id,
        min(active_date) as first_seen_date,
        max(active_date) as last_seen_date
    from list_active_days
    group by model_id

),

joined as (

    select
        -- ids
        coalesce(models.model_id, seen.model_id) as model_id,
        coalesce(models.provider_id, seen.provider_id) as provider_id,

        -- strings
        models.model_name,

        -- numerics
        models.input_usd_per_mtok,
        models.output_usd_per_mtok,
        models.context_tokens,

        -- booleans
        models.model_id is not null as is_listed,
        models.is_enabled,

        -- dates
        seen.first_seen_date,
        seen.last_seen_date,

        -- timestamps
        models.updated_at
    from models
    full outer join find_first_and_last_day as seen
        on models.model_id = seen.model_id

)

select * from joined
