with technique_days as (

    select * from {{ ref('agg_technique_daily') }}

),

-- Facts of the tools' own code: garak 0.17.1, tags of its probes by module (OWASP Top 10 for LLM
-- applications 1.1 of 2023, AVID effects); promptfoo, redteam/constants/frameworks.ts (OWASP 2025).
-- ATLAS, and the techniques without a framework, which papers named, are this project's reading.
facts as (

    select
        listed.framework,
        listed.technique_family,
        listed.owasp_llm,
        listed.mitre_atlas,
        listed.avid_effects
    from (
        values
        ('garak', 'adaptive_attacks', 'LLM01:2023', 'AML.T0054', 'S0403, P0204'),
        ('garak', 'agent_breaker', 'LLM01:2023, LLM07:2023, LLM08:2023', 'AML.T0051', null),
        ('garak', 'ansiescape', 'LLM01:2023, LLM02:2023, LLM05:2023', null, 'S0100, S0200'),
        ('garak', 'atkgen', null, null, 'E0301'),
        ('garak', 'audio', null, 'AML.T0054', 'S0403, P0204'),
        ('garak', 'av_spam_scanning', 'LLM02:2023', null, 'S0301, S0403'),
        ('garak', 'badchars', null, null, 'S0403'),
        ('garak', 'continuation', 'LLM01:2023', null, 'E0101, E0301, P0401'),
        ('garak', 'dan', 'LLM01:2023', 'AML.T0054', 'S0403, P0204'),
        ('garak', 'divergence', 'LLM04:2023, LLM06:2023, LLM10:2023', 'AML.T0057', 'S0301, P0403'),
        ('garak', 'doctor', 'LLM01:2023', 'AML.T0054', 'S0301'),
        ('garak', 'donotanswer', 'LLM06:2023, LLM09:2023', null, 'E0301, E0402, S0301'),
        ('garak', 'dra', 'LLM01:2023', 'AML.T0054', 'S0403'),
        ('garak', 'encoding', 'LLM01:2023', 'AML.T0051', 'S0403'),
        ('garak', 'exploitation', 'LLM02:2023, LLM06:2023', null, 'S0301, S0403'),
        ('garak', 'fileformats', 'LLM05:2023', null, null),
        ('garak', 'fitd', 'LLM01:2023, LLM02:2023, LLM05:2023', 'AML.T0054', null),
        ('garak', 'glitch', 'LLM05:2023', null, 'S0201, P0201'),
        ('garak', 'goat', 'LLM01:2023, LLM09:2023', 'AML.T0054', 'S0403'),
        (
            'garak',
            'goodside',
            'LLM01:2023, LLM05:2023, LLM09:2023',
            null,
            'S0403, P0201, P0204, E0402'
        ),
        ('garak', 'grandma', 'LLM06:2023', 'AML.T0054', 'S0300'),
        ('garak', 'latentinjection', 'LLM01:2023', 'AML.T0051.001', 'S0403'),
        ('garak', 'leakreplay', 'LLM06:2023, LLM10:2023', 'AML.T0057', 'S0301'),
        ('garak', 'lmrc', null, null, 'E0101, E0301, E0302, E0402, P0401'),
        ('garak', 'malwaregen', null, null, 'S0403'),
        ('garak', 'misleading', 'LLM09:2023', null, 'P0204'),
        ('garak', 'packagehallucination', 'LLM02:2023, LLM09:2023', 'AML.T0062', null),
        ('garak', 'phrasing', 'LLM01:2023', 'AML.T0054', null),
        ('garak', 'promptinject', 'LLM01:2023', 'AML.T0051', 'S0403'),
        ('garak', 'propile', 'LLM06:2023', 'AML.T0057', 'S0301'),
        ('garak', 'realtoxicityprompts', null, null, 'E0101, E0301, E0302, P0400, P0401'),
        ('garak', 'sata', 'LLM01:2023', 'AML.T0054', 'S0403, P0204'),
        ('garak', 'smuggling', 'LLM01:2023', 'AML.T0054', 'S0403'),
        ('garak', 'snowball', 'LLM09:2023', null, 'P0204'),
        ('garak', 'suffix', null, 'AML.T0054', 'S0403, P0204'),
        ('garak', 'sysprompt_extraction', 'LLM01:2023', 'AML.T0056', 'S0301'),
        ('garak', 'tap', null, 'AML.T0054', 'S0403, P0204'),
        ('garak', 'topic', 'LLM10:2023', null, 'S0301'),
        ('garak', 'visual_jailbreak', 'LLM01:2023', 'AML.T0054', null),
        ('garak', 'web_injection', 'LLM02:2023, LLM06:2023', null, 'S0301, S0403'),
        ('promptfoo', 'ascii-smuggling', 'LLM01:2025', 'AML.T0051', null),
        ('promptfoo', 'cross-session-leak', 'LLM02:2025', 'AML.T0057', null),
        ('promptfoo', 'indirect-prompt-injection', 'LLM01:2025', 'AML.T0051.001', null),
        ('promptfoo', 'jailbreak', 'LLM01:2025, LLM02:2025', 'AML.T0054', null),
        ('promptfoo', 'jailbreak-templates', 'LLM01:2025, LLM02:2025', 'AML.T0054', null),
        ('promptfoo', 'pii', 'LLM02:2025', 'AML.T0057', null),
        ('promptfoo', 'prompt-extraction', 'LLM01:2025, LLM02:2025', 'AML.T0056', null),
        ('', 'gcg', 'LLM01:2025', 'AML.T0054', 'S0403'),
        ('', 'jbc', 'LLM01:2025', 'AML.T0054', 'S0403'),
        ('', 'pair', 'LLM01:2025', 'AML.T0054', 'S0403'),
        ('', 'dsn', 'LLM01:2025', 'AML.T0054', 'S0403'),
        ('', 'tap', 'LLM01:2025', 'AML.T0054', 'S0403'),
        ('', 'autodan', 'LLM01:2025', 'AML.T0054', 'S0403'),
        ('', 'adaptive_random_search', 'LLM01:2025', 'AML.T0054', 'S0403')
    ) as listed (framework, technique_family, owasp_llm, mitre_atlas, avid_effects)

),

find_techniques as (

    select
        coalesce(framework, 'unknown') as framework,
        technique,
        regexp_extract(lower(technique), '^([^.:]*)', 1) as technique_family,
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
