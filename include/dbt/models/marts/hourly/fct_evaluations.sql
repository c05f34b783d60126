{{ config(on_schema_change="append_new_columns") }}

with evaluations as (

    select * from {{ ref('stg_app__evaluations') }}
    where
        _is_deleted is not true
        and {{ touched('_window_hour') }}

),

final as (

    select
        -- ids
        evaluation_id,
        provider_id,
        model_id,
        behaviour_id,

        -- strings
        framework,
        framework_version,
        evaluation_kind,
        technique,
        judge,
        status,
        report_file,

        -- numerics
        iteration_count,
        success_count,
        pass_count,
        error_count,
        undetermined_count,
        trial_count,
        successful_trial_count,
        score,
        score_stderr,
        prompt_tokens,
        completion_tokens,
        cached_tokens,
        latency_ms,
        cost_usd,

        -- booleans
        is_successful,

        -- dates
        {{ date_of('created_at') }} as created_date,

        -- timestamps
        created_at,
        updated_at,

        -- lineage
        _window_hour
    from evaluations

)

select * from final
