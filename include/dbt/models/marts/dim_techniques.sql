with technique_days as (

    select * from {{ ref('agg_technique_daily') }}

),

facts as (

    select * from {{ ref('int_techniques_classified') }}

),

find_techniques as (

    select
        coalesce(framework, 'unknown') as framework,
        technique,
        regexp_extract(lower(technique), '^[^.:]*') as technique_family,
        min(evaluation_date) as first_evaluation_date,
        max(evaluation_date) as last_evaluation_date
    from technique_days
    group by coalesce(framework, 'unknown'), technique

),

-- what a framework's own code says of a family goes before what holds in any framework
classified as (

    select
        -- ids
        found.framework,
        found.technique,

        -- strings
        found.technique_family,
        coalesce(own.owasp_llm, common.owasp_llm) as owasp_llm,
        coalesce(own.mitre_atlas, common.mitre_atlas) as mitre_atlas,
        coalesce(own.avid_effects, common.avid_effects) as avid_effects,

        -- dates
        found.first_evaluation_date,
        found.last_evaluation_date
    from find_techniques as found
    left join facts as own
        on found.framework = own.framework and found.technique_family = own.technique_family
    left join facts as common
        on
            common.framework = ''
            and own.framework is null
            and found.technique_family = common.technique_family

)

select * from classified
