with log_lines as (

    select * from {{ ref('stg_logs__api_requests') }}
    where {{ touched('_window_hour') }}

),

keep_requests as (

    select
        -- ids
        log_line_id,
        request_id,
        user_id,

        -- strings
        http_method,
        path,
        log_level,

        -- numerics
        status_code,
        duration_ms,
        response_bytes,

        -- booleans
        status_code between 400 and 499 as is_client_error,
        status_code between 500 and 599 as is_server_error,

        -- dates
        {{ date_of('logged_at') }} as logged_date,

        -- timestamps
        logged_at,

        -- lineage
        _window_hour
    from log_lines
    where http_method is not null

)

select * from keep_requests
