{# Materializations of the lake: DuckDB writes the files, the plugin stages or commits them. #}

{# dbt lets only its own `statement` run Python; `lake_begin` has shown the model's parents. #}
{% materialization table, adapter="duckdb", supported_languages=["sql", "python"] %}
    {%- set rows = lake_begin() -%}
    {% call dbt.statement("main", language=model.language) -%}
        {{ lake_rows(rows, compiled_code) }}
    {%- endcall %}
    {{ return(lake_finish(this.incorporate(type="table"), rows, "all")) }}
{% endmaterialization %}

{% materialization incremental, adapter="duckdb", supported_languages=["sql", "python"] %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set strategy = lake_strategy() -%}
    {%- set may_replace = should_full_refresh() or (existing is not none and existing.is_view) -%}
    {%- set is_whole = may_replace or existing is none or lake_is_partial(existing) -%}
    {%- set rows = lake_begin() -%}
    {% call dbt.statement("main", language=model.language) -%}
        {{ lake_rows(rows, compiled_code) }}
    {%- endcall %}
    {{ return(lake_finish(
        this.incorporate(type="table"), rows, "all" if is_whole else strategy.name,
        dict(strategy.options, may_replace=may_replace)
    )) }}
{% endmaterialization %}

{# Check and return the model's strategy and its options. #}
{% macro lake_strategy() -%}
    {%- set keys = config.get("unique_key") -%}
    {%- set keys = [keys] if keys is string and keys else keys -%}
    {%- set name = config.get("incremental_strategy") or "default" -%}
    {%- if name == "default" -%}
        {%- set name = "delete+insert" if keys else "append" -%}
    {%- endif -%}
    {%- set spellings = {
        "replace_window": "window", "replace-window": "window", "delete_insert": "delete+insert"
    } -%}
    {%- set name = spellings.get(name, name) -%}
    {%- if name not in ("append", "merge", "delete+insert", "window", "microbatch") -%}
        {#- raises dbt's own error if it does not know the name either -#}
        {% set unknown = adapter.get_incremental_strategy_macro(context, name) %}
        {% do lake_refuse(
            "incremental_strategy append, merge, delete+insert, replace_window or microbatch", name
        ) %}
    {%- endif -%}
    {%- set by = config.get("partition_by") -%}
    {%- set by = [by] if by is string else (by or []) -%}
    {%- if name == "window" and by not in (["_window_hour"], ["_window_day"]) -%}
        {% do lake_refuse(
            "partition_by='_window_hour' or '_window_day' for strategy replace_window",
            by | join(", ") or "none"
        ) %}
    {%- endif -%}
    {%- for option in (
        "merge_clauses", "merge_on_using_columns", "merge_update_condition",
        "merge_insert_condition", "merge_update_set_expressions", "merge_returning_columns"
    ) if config.get(option) -%}
        {% do lake_refuse(
            "unique_key, merge_update_columns, merge_exclude_columns and incremental_predicates",
            option
        ) %}
    {%- endfor -%}
    {%- if config.get("merge_update_columns") and config.get("merge_exclude_columns") -%}
        {% do lake_refuse("merge_update_columns or merge_exclude_columns", "both") %}
    {%- endif -%}
    {{ return({"name": name, "options": lake_strategy_options(name, keys)}) }}
{%- endmacro %}

{% macro lake_strategy_options(name, keys) -%}
    {%- set predicates = config.get("predicates") or config.get("incremental_predicates") -%}
    {%- set batch = model.get("batch") or {} -%}
    {{ return({
        "keys": keys | unique | list if keys else none,
        "update": config.get("merge_update_columns") if name == "merge" else none,
        "exclude": config.get("merge_exclude_columns") if name == "merge" else none,
        "predicates": predicates,
        "event_time": config.get("event_time"),
        "begin": batch.get("event_time_start"),
        "end": batch.get("event_time_end"),
    }) }}
{%- endmacro %}

{% macro lake_refuse(expected, came) -%}
    {% do exceptions.raise_compiler_error(
        "Expected " ~ expected ~ "; came " ~ came ~ ". Where: config of " ~ this
        ~ ". Next: see the table of options in include/dbt/README.md"
    ) %}
{%- endmacro %}

{# Tables that other macros create, such as dbt's own tests, go to the lake too. #}
{% macro duckdb__create_table_as(
    temporary, relation, compiled_code, language="sql", partitioned_by=none, sorted_by=none
) -%}
    {%- if temporary or language == "python" -%}
        {{ return(dbt.duckdb__create_table_as(temporary, relation, compiled_code, language)) }}
    {%- endif -%}
    {% do lake_create_table(relation, compiled_code) %}
    {{ return("select 'stored' as lake") }}
{%- endmacro %}

{% macro lake_create_table(relation, compiled_code, options={}) -%}
    {%- set identifier = relation.identifier ~ "__dbt_rows" -%}
    {%- set rows = api.Relation.create(identifier=identifier, type="view") -%}
    {% call statement("rows") -%}
        create or replace temporary view {{ rows }} as (
            {{ compiled_code }}
        )
    {%- endcall %}
    {% do lake_store(relation, rows, "all", options) %}
    {% call statement("release", auto_begin=False) %}drop view if exists {{ rows }}{% endcall %}
{%- endmacro %}

{#
  `dbt clone`: shallow clones of Delta tables are not available here, so copy the rows. No parent is
  read, so the next build recomputes everything.
#}
{% macro duckdb__can_clone_table() -%}{{ return(true) }}{%- endmacro %}

{% macro duckdb__create_or_replace_clone(this_relation, defer_relation) -%}
    {% do lake_create_table(this_relation, "select * from " ~ defer_relation, {"parents": []}) %}
    {{ return("select 'stored' as lake") }}
{%- endmacro %}
