{# A test of a model built in this process reads only the partitions that were built. #}
{% macro get_where_subquery(relation) -%}
    {%- set relation = in_session(relation) -%}
    {%- set where = config.get("where", "") -%}
    {%- set conditions = ["(" ~ where ~ ")"] if where else [] -%}
    {%- if execute -%}
        {%- set built = lake_call("lake_built", [lake_name(relation)]) -%}
        {%- if built is not none -%}
            {%- set is_daily = built and built[0] | length <= 8 -%}
            {%- set column = "_window_day" if is_daily else "_window_hour" -%}
            {%- do conditions.append(lake_predicate(column, built)) -%}
        {%- endif -%}
    {%- endif -%}
    {%- if conditions -%}
        {%- set rows = "select * from " ~ relation ~ " where " ~ conditions | join(" and ") -%}
        {{ return("(" ~ rows ~ ") dbt_subquery") }}
    {%- endif -%}
    {{ return(relation) }}
{%- endmacro %}
