with source as (

    select * from {{ source('logs', 'api_logs') }}
    where {{ touched('_window_hour') }}

),

renamed as (

    select
        -- ids
        md5(concat_ws('|', _file, _offset, _line_hash)) as log_line_id,
        request_id,
        user_id,

        -- strings
        level as log_level,
        method as http_method,
        path,
        message,

        -- numerics
        status_code,
        duration_ms,
        response_bytes,

        -- timestamps
        timestamp as logged_at,

        -- lineage
        _file,
        _offset,
        _line_hash,
        _window_hour
    from source

)

select * from renamed
