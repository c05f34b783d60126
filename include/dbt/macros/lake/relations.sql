{# Overrides of dbt-duckdb's relation macros: relations are the lake's tables and views. #}

{# Carry out a request of a materialization. #}
{% macro lake_do(relation, action, options={}) -%}
    {{ return(adapter.dispatch("lake_do")(relation, action, options)) }}
{%- endmacro %}

{% macro duckdb__lake_do(relation, action, options) -%}
    {%- do adapter.valid_incremental_strategies() -%}  {#- opens the session, as in lake_show -#}
    {% do adapter.commit() %}
    {% do adapter.store_relation(
        "lake", relation, [], "", "delta", dict({"action": action}, **options)
    ) %}
{%- endmacro %}

{#
  Refuse, before anything is written, a name that the lake can't store or that another model of the
  project also has, ignoring case.
#}
{% macro lake_check() -%}
    {% do lake_do(this, "check") %}
    {%- for node in graph.nodes.values() -%}
        {%- if node.unique_id != model.unique_id
            and node.resource_type in ("model", "seed", "snapshot")
            and node.config.materialized != "ephemeral"
            and node.schema | lower == model.schema | lower
            and node.alias | lower == model.alias | lower -%}
            {% do exceptions.raise_compiler_error(
                "Expected one model of each name, whatever its case; came " ~ node.unique_id
                ~ " and " ~ model.unique_id ~ ". Where: " ~ this
                ~ ". Next: give one of them another alias"
            ) %}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}

{#
  Show the lake's relations that a statement names (none: all of them), so that a process opens only
  what it reads. Every statement passes through here; queries that dbt runs without a statement call
  this first. Parents that the statement names must exist.
#}
{% macro lake_show(statement, parents=[]) -%}
    {{ return(adapter.dispatch("lake_show")(statement, parents)) }}
{%- endmacro %}

{% macro duckdb__lake_show(statement, parents) -%}
    {#- Opens the session: this asks DuckDB its version once. -#}
    {%- do adapter.valid_incremental_strategies() -%}
    {% do adapter.store_relation(
        "lake", api.Relation.create(schema="lake", identifier="session"), [], "", "delta",
        {"action": "show", "statement": statement, "parents": parents}
    ) %}
{%- endmacro %}

{% macro statement(name=none, fetch_result=False, auto_begin=True, language="sql") -%}
    {%- if execute -%}
        {%- set code = caller() -%}
        {% do lake_show(code) %}
        {%- call dbt.statement(name, fetch_result, auto_begin, language) -%}
            {{- code -}}
        {%- endcall -%}
    {%- endif -%}
{%- endmacro %}

{# `dbt show` runs its query without a statement. #}
{% macro duckdb__get_limit_sql(sql, limit) -%}
    {% do lake_show(sql) %}
    {{ return(dbt.default__get_limit_sql(sql, limit)) }}
{%- endmacro %}

{# A schema's relations in the project's spelling, by lower case: dbt names are case-sensitive. #}
{% macro lake_spelled(schema) -%}
    {%- set spelled = {} -%}
    {%- set nodes = graph.get("nodes", {}).values() | list -%}
    {%- for node in nodes + graph.get("sources", {}).values() | list -%}
        {%- if (node.schema or "") | lower == schema | lower -%}
            {%- set name = node.get("identifier") or node.get("alias") -%}
            {%- if name -%}{%- do spelled.update({name | lower: name}) -%}{%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(spelled) }}
{%- endmacro %}

{# A table of the lake is a view over delta_scan in the session; report it to dbt as a table. #}
{% macro duckdb__list_relations_without_caching(schema_relation) -%}
    {%- set schema = lake_literal(schema_relation.schema) -%}
    {%- set spelled = lake_spelled(schema_relation.schema) -%}
    {% call statement("list_relations_without_caching", fetch_result=True) -%}
        with names as (
            select unnest(lake_names({{ schema }})) as name
        )
        select
            '{{ schema_relation.database }}' as database,
            coalesce(
                map(
                    {{ lake_literal(spelled.keys()) }}, {{ lake_literal(spelled.values()) }}
                )[lower(name)],
                name
            ) as name,
            {{ schema }} as schema,
            lake_kind([{{ schema }}, name]) as type
        from names
        union all
        select
            table_catalog,
            table_name,
            table_schema,
            case table_type when 'VIEW' then 'view' else 'table' end
        from system.information_schema.tables
        where
            lower(table_schema) = lower({{ schema }})
            and lower(table_catalog) = '{{ schema_relation.database | lower }}'
            and lake_kind([table_schema, table_name]) is null
    {%- endcall %}
    {{ return(load_result("list_relations_without_caching").table) }}
{%- endmacro %}

{# A relation's kind in the lake: `table`, `view`, or none if it exists only in the session. #}
{% macro lake_kind(relation) -%}
    {{ return(lake_ask("lake_kind", lake_name(relation))) }}
{%- endmacro %}

{% macro duckdb__drop_relation(relation) -%}
    {%- if lake_kind(relation) -%}
        {% do lake_do(relation, "drop") %}
    {%- else -%}
        {{ dbt.duckdb__drop_relation(relation) }}
    {%- endif -%}
{%- endmacro %}

{% macro duckdb__rename_relation(from_relation, to_relation) -%}
    {%- if lake_kind(from_relation) -%}
        {% do lake_do(from_relation, "rename", {"target": lake_name(to_relation)}) %}
    {%- else -%}
        {{ dbt.duckdb__rename_relation(from_relation, to_relation) }}
    {%- endif -%}
{%- endmacro %}

{% macro duckdb__drop_schema(relation) -%}
    {% do lake_do(relation, "drop_schema") %}
    {{ dbt.duckdb__drop_schema(relation) }}
{%- endmacro %}

{% macro duckdb__truncate_relation(relation) -%}
    {% do lake_run("truncate table " ~ relation.render()) %}
{%- endmacro %}

{% macro duckdb__alter_relation_add_remove_columns(relation, add_columns, remove_columns) -%}
    {%- for column in add_columns or [] -%}
        {% do lake_alter(relation, "add", column.name, column.data_type) %}
    {%- endfor -%}
    {%- for column in remove_columns or [] -%}
        {% do lake_alter(relation, "drop", column.name) %}
    {%- endfor -%}
{%- endmacro %}

{% macro duckdb__alter_column_type(relation, column_name, new_column_type) -%}
    {% do lake_alter(relation, "alter", column_name, "type " ~ new_column_type) %}
{%- endmacro %}

{% macro lake_alter(relation, verb, name, rest="") -%}
    {%- set column = adapter.quote(name) -%}
    {% do lake_run(["alter table", relation.render(), verb, "column", column, rest] | join(" ")) %}
{%- endmacro %}

{# Run SQL statements; one that changes a table of the lake rewrites the table in one commit. #}
{% macro lake_run(statements) -%}
    {%- if execute -%}
        {%- if lake_ask("lake_changed_by", statements) -%}
            {% do lake_change(statements) %}
        {%- else -%}
            {% do run_query(statements) %}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro lake_change(statements) -%}
    {% do lake_do(
        this or api.Relation.create(schema="lake", identifier="lake"),
        "statements",
        {"statements": statements, "partial": lake_partial()}
    ) %}
{%- endmacro %}

{% macro run_hooks(hooks, inside_transaction=True) -%}
    {%- for hook in hooks | selectattr("transaction", "equalto", inside_transaction) -%}
        {%- set rendered = render(hook.get("sql")) | trim -%}
        {%- if rendered -%}
            {%- if lake_ask("lake_changed_by", rendered) -%}
                {% do lake_change(rendered) %}
            {%- else -%}
                {% call statement(auto_begin=inside_transaction) %}{{ rendered }}{% endcall %}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}

{% macro duckdb__apply_grants(relation, grant_config, should_revoke=True) -%}
    {%- if grant_config -%}
        {% do exceptions.raise_compiler_error(
            "Expected no grants; came grants for " ~ (grant_config | join(", "))
            ~ ". Where: " ~ relation ~ ". Next: remove `grants` from the config; "
            ~ "who may read the lake is decided by its folder or bucket"
        ) %}
    {%- endif -%}
{%- endmacro %}

{# List the lake's tables as tables in dbt's catalog. #}
{% macro duckdb__get_catalog_tables_sql(information_schema) -%}
    {% do lake_show(none) %}
    select *
    from (
        select
            database_name as table_database,
            schema_name as table_schema,
            table_name,
            'BASE TABLE' as table_type,
            comment as table_comment
        from duckdb_tables()
        where upper(database_name) = upper('{{ information_schema.database }}')
        union all
        select
            database_name,
            schema_name,
            view_name,
            case lake_kind([schema_name, view_name]) when 'table' then 'BASE TABLE' else 'VIEW' end,
            comment
        from duckdb_views()
        where upper(database_name) = upper('{{ information_schema.database }}')
    ) as catalog_tables
{%- endmacro %}
