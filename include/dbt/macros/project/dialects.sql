{#
  What DuckDB and Spark say differently. Models call these, and never ask which engine they are for.
  Spark's session is in UTC, as DuckDB's is; `at time zone` gives a date its own regardless.
#}

{# The name by which the engine's session knows a relation. #}
{% macro in_session(relation) -%}
    {{ return(adapter.dispatch("in_session")(relation)) }}
{%- endmacro %}

{% macro duckdb__in_session(relation) -%}{{ return(relation) }}{%- endmacro %}

{# Spark has no schema that is a session's own: views of a session are named `<schema>__<table>`. #}
{% macro spark__in_session(relation) -%}
    {%- if relation.is_cte or not relation.schema -%}{{ return(relation) }}{%- endif -%}
    {%- set identifier = relation.schema ~ "__" ~ relation.identifier -%}
    {{ return(api.Relation.create(identifier=identifier, type="view")) }}
{%- endmacro %}

{# An aggregate: the quantile, linearly interpolated, of a column's values without nulls. #}
{% macro quantile(column, share) -%}
    {{ return(adapter.dispatch("quantile")(column, share)) }}
{%- endmacro %}

{% macro duckdb__quantile(column, share) -%}
    quantile_cont({{ column }}, {{ share }})
{%- endmacro %}

{% macro spark__quantile(column, share) -%}
    percentile({{ column }}, {{ share }})
{%- endmacro %}

{# The UTC hour of a timestamp, as text `YYYYMMDDTHH`. #}
{% macro hour_of(moment) -%}
    {{ return(adapter.dispatch("hour_of")(moment)) }}
{%- endmacro %}

{% macro duckdb__hour_of(moment) -%}
    strftime({{ moment }} at time zone 'UTC', '%Y%m%dT%H')
{%- endmacro %}

{% macro spark__hour_of(moment) -%}
    date_format({{ moment }}, "yyyyMMdd'T'HH")
{%- endmacro %}

{# The timestamp at which an hour, given as text `YYYYMMDDTHH`, starts. #}
{% macro start_of(hour) -%}
    {{ return(adapter.dispatch("start_of")(hour)) }}
{%- endmacro %}

{% macro duckdb__start_of(hour) -%}
    strptime({{ hour }}, '%Y%m%dT%H') at time zone 'UTC'
{%- endmacro %}

{% macro spark__start_of(hour) -%}
    to_timestamp({{ hour }}, "yyyyMMdd'T'HH")
{%- endmacro %}

{# The UTC date of a timestamp. #}
{% macro date_of(moment) -%}
    {{ return(adapter.dispatch("date_of")(moment)) }}
{%- endmacro %}

{% macro duckdb__date_of(moment) -%}
    cast({{ moment }} at time zone 'UTC' as date)
{%- endmacro %}

{% macro spark__date_of(moment) -%}
    cast({{ moment }} as date)
{%- endmacro %}

{# The date of a day that is given as text `YYYYMMDD`. #}
{% macro date_of_day(day) -%}
    {{ return(adapter.dispatch("date_of_day")(day)) }}
{%- endmacro %}

{% macro duckdb__date_of_day(day) -%}
    cast(strptime({{ day }}, '%Y%m%d') as date)
{%- endmacro %}

{% macro spark__date_of_day(day) -%}
    to_date({{ day }}, 'yyyyMMdd')
{%- endmacro %}

{# A query of one row of each key: the one that is greatest by some columns, none of them null. #}
{% macro newest(rows, key, by) -%}
    {{ return(adapter.dispatch("newest")(rows, key, by)) }}
{%- endmacro %}

{% macro duckdb__newest(rows, key, by) -%}
    select * from {{ rows }}
    qualify row_number() over (
        partition by {{ key }}
        order by {{ by | join(" desc, ") }} desc
    ) = 1
{%- endmacro %}

{#
  Not every Spark can leave a column out of `*`: `lake_stage_files` drops the rank. `max_by` of a
  struct needs none, but took Sail 13 GB and 44 s of CPU for a million rows (2026-11-30).
#}
{% macro spark__newest(rows, key, by) -%}
    select ranked.* from (
        select *, row_number() over (
            partition by {{ key }}
            order by {{ by | join(" desc, ") }} desc
        ) as lake_rank
        from {{ rows }}
    ) as ranked
    where lake_rank = 1
{%- endmacro %}

{#
  Add the rows of another query, matching columns by name. Spark matches by position: a commit
  refuses a build whose columns are not the table's in their order (include/chimera/lake/publish/).
#}
{% macro union_by_name() -%}
    {{ return(adapter.dispatch("union_by_name")()) }}
{%- endmacro %}

{% macro duckdb__union_by_name() -%}union all by name{%- endmacro %}

{% macro spark__union_by_name() -%}union all{%- endmacro %}
