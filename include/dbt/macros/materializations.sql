{# The lake's materializations: DuckDB writes the files, the plugin stages or commits them. #}

{% macro lake_store(target_relation, replace) -%}
    {%- if config.get("contract").enforced -%}
        {% set checked = get_assert_columns_equivalent(compiled_code) %}
    {%- endif -%}
    {%- set temporary = this.incorporate(
        path={"identifier": this.identifier ~ "__dbt_tmp"}, type="view"
    ) -%}
    {% call statement("main") -%}
        create or replace view {{ temporary }} as ({{ compiled_code }})
    {%- endcall %}
    {% do adapter.commit() %}
    {% do adapter.store_relation(
        "lake", target_relation, [], "", "delta", {
            "replace": replace,
            "partition_by": config.get("partition_by"),
            "parents": lake_parents(model),
            "invocation_id": invocation_id,
        }
    ) %}
    {% call statement("drop_temporary", auto_begin=True) -%}
        drop view if exists {{ temporary }}
    {%- endcall %}
{%- endmacro %}

{% macro lake_materialize(replace) -%}
    {%- set target_relation = this.incorporate(type="table") -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% do lake_store(target_relation, replace) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({"relations": [target_relation]}) }}
{%- endmacro %}

{% materialization table, adapter="duckdb" %}
    {{ return(lake_materialize("all")) }}
{% endmaterialization %}

{% materialization incremental, adapter="duckdb" %}
    {%- if config.get("incremental_strategy") != "replace_window" -%}
        {% do exceptions.raise_compiler_error(
            "Expected incremental_strategy replace_window; came "
            ~ config.get("incremental_strategy") ~ ". Where: " ~ this
            ~ ". Next: set incremental_strategy='replace_window' and partition_by"
        ) %}
    {%- endif -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ return(lake_materialize("all" if existing is none or should_full_refresh() else "window")) }}
{% endmaterialization %}
