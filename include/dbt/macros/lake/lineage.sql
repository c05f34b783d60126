{# Predicates for what a model must recompute, with literal values that prune partitions. #}

{# A relation as the plugin takes it: a list of schema and identifier, not one joined text. #}
{% macro lake_name(relation) -%}
    {{ return((relation.schema | string, relation.identifier | string)) }}
{%- endmacro %}

{# A text, or nested lists of texts, as an SQL literal. #}
{% macro lake_literal(value) -%}
    {%- if value is string -%}{{ return("'" ~ (value | replace("'", "''")) ~ "'") }}{%- endif -%}
    {%- set items = [] -%}
    {%- for item in value -%}{%- do items.append(lake_literal(item)) -%}{%- endfor -%}
    {{ return("[" ~ (items | join(", ")) ~ "]") }}
{%- endmacro %}

{# Names of the Delta tables that a node reads, directly or through ephemeral models. #}
{% macro lake_parents(node) -%}
    {%- set names = [] -%}
    {%- for unique_id in node.depends_on.nodes -%}
        {%- set parent = graph.nodes.get(unique_id) or graph.sources.get(unique_id) -%}
        {%- if parent and parent.get("config", {}).get("materialized") == "ephemeral" -%}
            {%- do names.extend(lake_parents(parent)) -%}
        {%- elif parent -%}
            {%- do names.append((parent.schema, parent.identifier or parent.alias)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(names | unique | list) }}
{%- endmacro %}

{# The single value that a function of the plugin returns. #}
{% macro lake_ask(function, value) -%}
    {{ return(adapter.dispatch("lake_ask")(function, value)) }}
{%- endmacro %}

{% macro duckdb__lake_ask(function, value) -%}
    {%- set found = run_query("select " ~ function ~ "(" ~ lake_literal(value) ~ ")") -%}
    {{ return(found.rows[0][0]) }}
{%- endmacro %}

{# The list that a function of the plugin returns, or none. #}
{% macro lake_call(function, arguments) -%}
    {{ return(adapter.dispatch("lake_call")(function, arguments)) }}
{%- endmacro %}

{% macro duckdb__lake_call(function, arguments) -%}
    {%- set literals = [] -%}
    {%- for argument in arguments -%}
        {%- set none_of_them = "cast([] as varchar[][])" -%}
        {%- do literals.append(lake_literal(argument) if argument else none_of_them) -%}
    {%- endfor -%}
    {%- set called = function ~ "(" ~ (literals | join(", ")) ~ ")" -%}
    {%- set values = run_query(
        "select unnest(" ~ called ~ ") as value, 1 as is_known"
        ~ " union all select null, 0 where " ~ called ~ " is null"
    ) -%}
    {%- if values.rows and values.rows[0][1] == 0 -%}{{ return(none) }}{%- endif -%}
    {{ return(values.columns[0].values() | list) }}
{%- endmacro %}

{# Add bounds to the list: delta_scan skips files by =, between and like, not by `in` or `or`. #}
{% macro lake_predicate(column, values) -%}
    {%- if values is none -%}true
    {%- elif not values -%}false
    {%- else -%}
        {{ column }} between '{{ values | min }}' and '{{ values | max }}'
        {{- " and " ~ column }} in ('{{ values | join("', '") }}')
    {%- endif -%}
{%- endmacro %}

{# Does a model read its parents whole? #}
{% macro lake_takes_all() -%}
    {%- if execute and config.get("materialized") == "incremental" and lake_is_preview() -%}
        {{ return(false) }}
    {%- endif -%}
    {{ return(not execute or not is_incremental() or lake_is_deferred()) }}
{%- endmacro %}

{#
  Predicate: this run must recompute the partition (every partition if the model is built whole).
  A column whose name ends in `_day` is compared with days. The hours come from
  include/chimera/lake/delta/lineage.py.
#}
{% macro touched(column) -%}
    {%- if lake_takes_all() -%}{{ return("true") }}{%- endif -%}
    {%- set hours = lake_call("lake_touched", [lake_name(this), lake_parents(model)]) -%}
    {%- if not hours or config.get("partition_by") != "_window_day" -%}
        {{ return(lake_predicate(column, hours)) }}
    {%- endif -%}
    {%- set days = [] -%}
    {%- for hour in hours -%}{%- do days.append(hour[:8]) -%}{%- endfor -%}
    {%- set days = days | unique | list -%}
    {%- if column.endswith("_day") -%}{{ return(lake_predicate(column, days)) }}{%- endif -%}
    {{ return(
        column ~ " between '" ~ (days | min) ~ "T00' and '" ~ (days | max) ~ "T23' and left("
        ~ column ~ ", 8) in ('" ~ (days | join("', '")) ~ "')"
    ) }}
{%- endmacro %}

{#
  Predicate: the parent's partition received rows since this model last read it (every partition if
  the model is built whole).
#}
{% macro arrived(column, parent) -%}
    {%- if lake_takes_all() -%}{{ return("true") }}{%- endif -%}
    {%- set names = [lake_name(this), lake_parents(model), lake_name(parent)] -%}
    {%- set hours = lake_call("lake_arrived", names) -%}
    {{ return(lake_predicate(column, hours)) }}
{%- endmacro %}
