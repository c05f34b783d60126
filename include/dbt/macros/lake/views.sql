{# Views: store the SQL beside the lake's tables, where the next process finds it. #}

{% macro lake_view(target_relation, code) -%}
    {% do lake_show(code) %}
    {%- if config.get("contract").enforced -%}
        {% set checked = get_assert_columns_equivalent(code) %}
    {%- endif -%}
    {%- set columns = get_column_schema_from_query(code) if config.persist_column_docs() -%}
    {% do lake_do(target_relation, "view", {
        "query": code | replace('"' ~ target.database ~ '".', ""),
        "description": model.description if config.persist_relation_docs() else none,
        "partial": lake_partial(),
        "comments": lake_column_comments(columns) if columns else none,
    }) %}
{%- endmacro %}

{% materialization view, adapter="duckdb" %}
    {%- set target_relation = this.incorporate(type="view") -%}
    {% do lake_check() %}
    {% do lake_show(sql, lake_parents(model)) %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call noop_statement("main", "CREATE VIEW", "CREATE VIEW") -%}
        create view {{ target_relation }} as ({{ sql }})
    {%- endcall %}
    {% do lake_view(target_relation, sql) %}
    {% do apply_grants(target_relation, config.get("grants")) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}

{% macro duckdb__create_view_as(relation, sql) -%}
    {% do lake_view(relation, sql) %}
    {{ return("select 'stored' as lake") }}
{%- endmacro %}
