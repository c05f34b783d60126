-- One row per attack (a row of its memory's AttackResultEntries), or per configuration of a scorer (a line of its registry, which has its
-- error instead of an accuracy where it scores on a scale). Objectives, templates and endpoints are texts, and stay out.
with listed as (
    select
        file,
        written_at,
        unnest(case when json_type(document) = 'ARRAY' then cast(document as json[]) else [document] end) as found
    from source
),

parsed as (
    select
        file,
        written_at,
        found,
        -- A table's column of JSON is a text in its export.
        coalesce(
            try_cast(found ->> '$.atomic_attack_identifier' as json), try_cast(found ->> '$.attack_identifier' as json)
        ) as attack,
        found ->> '$.outcome' as outcome,
        found -> '$.metrics' as metrics
    from listed
),

attacks as (
    select
        found ->> '$.id' as evaluation_id,
        coalesce(try_cast((found ->> '$.timestamp') || '+00' as timestamptz), try_cast(found ->> '$.timestamp' as timestamptz)) as created_at,
        'attack' as evaluation_kind,
        cast(null as varchar) as framework_version,
        list_filter(
            list_concat(attack ->> '$..class_name', attack ->> '$..__type__'),
            lambda name: name not in ('AtomicAttack', 'AttackTechnique') and not ends_with(name, 'Target')
        )[1] as technique,
        list_filter(
            list_concat(attack ->> '$..underlying_model_name', attack ->> '$..model_name'), lambda name: name <> ''
        )[1] as model_id,
        left(found ->> '$.objective_sha256', 64) as behaviour_id,
        cast(null as varchar) as judge,
        case when outcome in ('success', 'failure') then 'completed' else 'undetermined' end as status,
        1 as iterations,
        case when outcome in ('success', 'failure') then cast(outcome = 'success' as bigint) end as successes,
        case when outcome in ('success', 'failure') then cast(outcome = 'failure' as bigint) end as passes,
        cast(outcome not in ('success', 'failure') as bigint) as undetermined,
        cast(null as double) as score,
        cast(null as double) as score_stderr,
        try_cast(found ->> '$.execution_time_ms' as double) as latency_ms,
        file,
        written_at
    from parsed
    where outcome is not null
),

scorers as (
    select
        md5(concat_ws('|', 'pyrit', file, found ->> '$.eval_hash')) as evaluation_id,
        written_at as created_at,
        'benchmark' as evaluation_kind,
        found ->> '$.pyrit_version' as framework_version,
        coalesce(metrics ->> '$.harm_category', regexp_extract(file, '([^/]+)_metrics', 1)) as technique,
        list_filter(
            list_concat(found ->> '$..underlying_model_name', found ->> '$..model_name'), lambda name: name <> ''
        )[1] as model_id,
        case when metrics ->> '$.accuracy' is null then 'mean_absolute_error' else 'accuracy' end as behaviour_id,
        found ->> '$.class_name' as judge,
        'completed' as status,
        try_cast(metrics ->> '$.num_responses' as bigint) as iterations,
        cast(null as bigint) as successes,
        cast(null as bigint) as passes,
        cast(null as bigint) as undetermined,
        coalesce(try_cast(metrics ->> '$.accuracy' as double), try_cast(metrics ->> '$.mean_absolute_error' as double)) as score,
        coalesce(
            try_cast(metrics ->> '$.accuracy_standard_error' as double), try_cast(metrics ->> '$.mae_standard_error' as double)
        ) as score_stderr,
        cast(null as double) as latency_ms,
        file,
        written_at
    from parsed
    where metrics is not null
)

select
    *,
    'pyrit' as framework,
    created_at as updated_at
from (
    select * from attacks
    union all by name
    select * from scorers
)
