-- One row per score: of a trace as the API gives it, or of the export, one a line. Its comment is text, and stays out.
with scores as (
    select
        written_at,
        unnest(
            case
                when json_type(document, '$.trace.scores') = 'ARRAY' then cast(document -> '$.trace.scores' as json[])
                when json_type(document, '$.scores') = 'ARRAY' then cast(document -> '$.scores' as json[])
                when document ->> '$.data_type' is not null or document ->> '$.dataType' is not null then [document]
            end
        ) as found
    from source
),

timed as (
    select
        *,
        coalesce(found ->> '$.timestamp', found ->> '$.createdAt') as moment_text,
        coalesce(try_cast(moment_text || '+00' as timestamptz), try_cast(moment_text as timestamptz)) as moment
    from scores
)

select
    found ->> '$.id' as evaluation_id,
    moment as created_at,
    moment as updated_at,
    'langfuse' as framework,
    'benchmark' as evaluation_kind,
    found ->> '$.name' as technique,
    coalesce(found ->> '$.observationId', found ->> '$.observation_id', found ->> '$.traceId', found ->> '$.trace_id') as behaviour_id,
    -- What counts as a success, only its name could tell.
    try_cast(found ->> '$.value' as double) as score,
    found ->> '$.source' as judge,
    'completed' as status,
    written_at
from timed
