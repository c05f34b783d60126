{# A test of a model that was built in this process looks at the partitions that were built. #}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get("where", "") -%}
    {%- set conditions = ["(" ~ where ~ ")"] if where else [] -%}
    {%- if execute -%}
        {%- set built = lake_call("lake_built", [lake_name(relation)]) -%}
        {%- if built is not none -%}
            {%- set column = "_window_hour" if not built or built[0] | length > 8 else "_window_day" -%}
            {%- do conditions.append(lake_predicate(column, built)) -%}
        {%- endif -%}
    {%- endif -%}
    {%- if conditions -%}
        {{ return("(select * from " ~ relation ~ " where " ~ conditions | join(" and ") ~ ") dbt_subquery") }}
    {%- endif -%}
    {{ return(relation) }}
{%- endmacro %}
