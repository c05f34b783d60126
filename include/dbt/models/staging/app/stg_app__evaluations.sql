{{ config(on_schema_change="append_new_columns") }}

with source as (

    select * from {{ source('app', 'evaluations') }}
    where {{ arrived('_window_hour', source('app', 'evaluations')) }}

),

renamed as (

    select
        -- ids
        evaluation_id,
        coalesce(provider_id, 'unknown') as provider_id,
        coalesce(model_id, 'unknown') as model_id,
        behaviour_id,

        -- strings
        framework,
        coalesce(technique, 'unknown') as technique,
        framework_version,
        coalesce(evaluation_kind, 'attack') as evaluation_kind,
        judge,
        status,
        report_file,

        -- numerics
        iterations as iteration_count,
        successes as success_count,
        passes as pass_count,
        errors as error_count,
        undetermined as undetermined_count,
        -- a judge that counts passes judges each attempt, any other the evaluation as a whole
        case
            when passes is not null then coalesce(successes, 0) + passes
            when successes is not null then 1
        end as trial_count,
        case
            when passes is not null then coalesce(successes, 0)
            when successes is not null then cast(successes > 0 as bigint)
        end as successful_trial_count,
        score,
        score_stderr,
        prompt_tokens,
        completion_tokens,
        cached_tokens,
        latency_ms,
        cost_usd,

        -- booleans
        successes > 0 as is_successful,

        -- timestamps
        created_at,
        updated_at,

        -- lineage
        _row_hash,
        _is_deleted,
        {{ hour_of('created_at') }} as _window_hour
    from source

),

candidates as (

    select * from renamed
    where {{ touched('_window_hour') }}
    {% if is_incremental() %}
        {{ union_by_name() }}

        select * from {{ in_session(this) }}
        where {{ touched('_window_hour') }}
    {% endif %}

),

keep_newest as (

    {{ newest('candidates', key='evaluation_id', by=['updated_at', '_row_hash']) }}

)

select * from keep_newest
