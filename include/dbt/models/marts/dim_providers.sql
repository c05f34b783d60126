with models as (

    select * from {{ ref('stg_app__models') }}

),

usage_days as (

    select * from {{ ref('agg_usage_daily') }}

),

technique_days as (

    select * from {{ ref('agg_technique_daily') }}

),

count_listed_models as (

    select
        provider_id,
        count(*) as listed_model_count,
        count(*) filter (where is_enabled) as enabled_model_count
    from models
    group by provider_id

),

list_active_days as (

    select
        provider_id,
        usage_date as active_date
    from usage_days
    union all
    select
        provider_id,
        evaluation_date as active_date
    from technique_days

),

find_first_and_last_day as (

    select
        provider_id,
        min(active_date) as first_seen_date,
        max(active_date) as last_seen_date
    from list_active_days
    group by provider_id

),

joined as (

    select
        -- ids
        coalesce(listed.provider_id, seen.provider_id) as provider_id,

        -- numerics
        coalesce(listed.listed_model_count, 0) as listed_model_count,
        coalesce(listed.enabled_model_count, 0) as enabled_model_count,

        -- booleans
        listed.provider_id is not null as is_listed,

        -- dates
        seen.first_seen_date,
        seen.last_seen_date
    from count_listed_models as listed
    full outer join find_first_and_last_day as seen
        on listed.provider_id = seen.provider_id

)

select * from joined
