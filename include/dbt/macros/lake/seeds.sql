{% materialization seed, adapter="duckdb" %}
    {%- set target_relation = this.incorporate(type="table") -%}
    {%- set agate_table = load_agate_table() -%}
    {%- do store_result("agate_table", response="OK", agate_table=agate_table) -%}
    {%- set count = agate_table.rows | length -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is not none and existing.is_view -%}
        {% do exceptions.raise_compiler_error("Cannot seed to '" ~ existing ~ "', it is a view") %}
    {%- endif -%}
    {% do lake_check() %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- set rows = api.Relation.create(identifier=this.identifier ~ "__dbt_seed", type="table") -%}
    {%- set loading = lake_load_seed(rows, agate_table) -%}
    {% call noop_statement("main", "INSERT " ~ count, "INSERT", count) %}{{ loading }}{% endcall %}
    {{ return(lake_finish(target_relation, rows, "all", {"partial": none})) }}
{% endmaterialization %}

{# Load the CSV file into a temporary table, with types from `column_types` or as dbt infers. #}
{% macro lake_load_seed(rows, agate_table) -%}
    {%- set declared = config.get("column_types") or {} -%}
    {%- set columns = [] -%}
    {%- for name in agate_table.column_names -%}
        {%- set kind = declared.get(name, adapter.convert_type(agate_table, loop.index0)) -%}
        {%- set quoted = adapter.quote_seed_column(name, config.get("quote_columns")) -%}
        {%- do columns.append(quoted ~ " " ~ kind) -%}
    {%- endfor -%}
    {%- set columns = columns | join(", ") -%}
    {%- set create = "create or replace temporary table " ~ rows ~ " (" ~ columns ~ ")" -%}
    {%- set path = adapter.escape_sql_string(adapter.get_seed_file_path(model)) -%}
    {%- set nulls = "['', 'null', 'NULL', 'Null']" -%}  {#- texts that dbt reads as null -#}
    {%- set load = "copy " ~ rows ~ " from '" ~ path ~ "' (format csv, header true, delimiter '"
        ~ config.get("delimiter", ",") ~ "', nullstr " ~ nulls ~ ")" -%}
    {% call statement("create_rows") %}{{ create }}{% endcall %}
    {%- if agate_table.rows -%}
        {% do adapter.add_query(load, abridge_sql_log=True) %}
    {%- endif -%}
    {{ return(create ~ ";\n" ~ load) }}
{%- endmacro %}
