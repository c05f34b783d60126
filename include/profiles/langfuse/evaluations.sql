-- One row per score: of a trace or a list as the API gives it, of a batch as SDKs send it, or of the export, one a line. Its comment is text,
-- and stays out.
with scores as (
    select
        file,
        written_at,
        unnest(
            case
                when json_type(document, '$.trace.scores') = 'ARRAY' then cast(document -> '$.trace.scores' as json[])
                when json_type(document, '$.scores') = 'ARRAY' then cast(document -> '$.scores' as json[])
                when json_type(document, '$.batch') = 'ARRAY'
                    then
                        list_transform(
                            list_filter(cast(document -> '$.batch' as json[]), lambda event: (event ->> '$.type') = 'score-create'),
                            lambda event: json_merge_patch(json_object('timestamp', event ->> '$.timestamp'), event -> '$.body')
                        )
                when json_type(document, '$.data') = 'ARRAY' or json_type(document) = 'ARRAY'
                    then
                        list_filter(
                            cast(coalesce(document -> '$.data', document) as json[]),
                            lambda each: (each ->> '$.data_type') is not null or (each ->> '$.dataType') is not null
                        )
                when (document ->> '$.data_type') is not null or (document ->> '$.dataType') is not null then [document]
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
    file,
    written_at
from timed
