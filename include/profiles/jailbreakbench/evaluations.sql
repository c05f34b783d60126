-- One row per behaviour that an artifact's attack tried: of an artifact, or of a table with a line for each (CSV, whose values are texts).
-- Goals, prompts and responses are texts, and stay out.
with listed as (
    select
        file,
        written_at,
        document -> '$.parameters' as parameters,
        unnest(
            case
                when json_type(document, '$.jailbreaks') = 'ARRAY' then cast(document -> '$.jailbreaks' as json[])
                when document ->> '$.jailbroken' is not null then [document]
            end
        ) as found
    from source
),

named as (
    select
        file,
        written_at,
        found,
        coalesce(parameters ->> '$.method', found ->> '$.technique') as technique,
        coalesce(parameters ->> '$.model', found ->> '$.model') as model_id,
        coalesce(parameters ->> '$.attack_type', found ->> '$.attack_type') as attack_type,
        coalesce(parameters ->> '$.evaluation_llm_provider', found ->> '$.evaluation_llm_provider') as provider_id,
        coalesce(parameters ->> '$.defense', found ->> '$.defense') as defense,
        try_cast(coalesce(parameters ->> '$.evaluation_date', found ->> '$.evaluation_date') || ' 00:00:00+00' as timestamptz) as evaluated,
        try_cast(found ->> '$.index' as bigint) as behaviour,
        try_cast(found ->> '$.jailbroken' as boolean) as is_jailbroken
    from listed
)

select
    md5(
        concat_ws('|', 'jailbreakbench', technique, model_id, attack_type, provider_id, coalesce(defense, ''), evaluated, behaviour)
    ) as evaluation_id,
    evaluated as created_at,
    evaluated as updated_at,
    'jailbreakbench' as framework,
    'attack' as evaluation_kind,
    provider_id,
    model_id,
    technique,
    'jbb-' || lpad(cast(behaviour as varchar), 3, '0') as behaviour_id,
    'jailbreakbench' as judge,
    case when is_jailbroken is null then 'undetermined' else 'completed' end as status,
    -- An artifact holds one prompt for each behaviour; how many queries led to it is the attack's budget, not a count of judgements.
    1 as iterations,
    cast(is_jailbroken as bigint) as successes,
    cast(not is_jailbroken as bigint) as passes,
    cast(is_jailbroken is null as bigint) as undetermined,
    try_cast(found ->> '$.prompt_tokens' as bigint) as prompt_tokens,
    try_cast(found ->> '$.response_tokens' as bigint) as completion_tokens,
    file,
    written_at
from named
