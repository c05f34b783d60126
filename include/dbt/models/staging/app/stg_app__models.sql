{{ config(materialized='table', partition_by=none) }}

with source as (

    select * from {{ source('app', 'models') }}

),

renamed as (

    select
        -- ids
        model_id,
        coalesce(provider_id, 'unknown') as provider_id,

        -- strings
        name as model_name,

        -- numerics
        input_usd_per_mtok,
        output_usd_per_mtok,
        context_tokens,

        -- booleans
        is_enabled,

        -- timestamps
        updated_at,

        -- lineage
        _row_hash
    from source

)

select * from renamed
