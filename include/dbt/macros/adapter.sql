{# Overrides of dbt-duckdb's own macros. #}

{# The lake's tables are registered as views over delta_scan: to dbt they are tables. #}
{% macro duckdb__list_relations_without_caching(schema_relation) -%}
    {% call statement("list_relations_without_caching", fetch_result=True) -%}
        select
            '{{ schema_relation.database }}' as database,
            table_name as name,
            table_schema as schema,
            'table' as type
        from system.information_schema.tables
        where
            lower(table_schema) = '{{ schema_relation.schema | lower }}'
            and lower(table_catalog) = '{{ schema_relation.database | lower }}'
    {%- endcall %}
    {{ return(load_result("list_relations_without_caching").table) }}
{%- endmacro %}

{# silver and gold in production, dev_silver and dev_gold on a laptop. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set layer = custom_schema_name | trim if custom_schema_name else "silver" -%}
    {{ layer if target.name == "prod" else target.name ~ "_" ~ layer }}
{%- endmacro %}

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
