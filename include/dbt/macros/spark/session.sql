{#
  Builds on Spark: no statement leaves the session. include/chimera/lake/spark/ puts the parents, and
  what a model asks of its plan, into it before dbt runs, and stages what the model left after.
#}

{# The parents are there already. #}
{% macro spark__lake_show(statement, parents) -%}{%- endmacro %}

{% macro spark__lake_commit() -%}{%- endmacro %}

{# The list that was put down for a question, or none. #}
{% macro spark__lake_call(function, arguments) -%}
    {%- set about = " " ~ arguments[-1][-1] if function == "lake_arrived" else "" -%}
    {%- set found = run_query(
        "select value from lake_answers where question = " ~ lake_text(function ~ about)
    ) -%}
    {%- if not found.rows -%}{{ return(none) }}{%- endif -%}
    {{ return(found.columns[0].values() | reject("none") | list) }}
{%- endmacro %}

{% macro spark__lake_ask(function, value) -%}
    {% do lake_refuse("a model that asks nothing else, on Spark", function) %}
{%- endmacro %}

{% macro spark__lake_is_preview() -%}{{ return(false) }}{%- endmacro %}

{# Whether there is a table to add to, from whose plan the parents' hours were chosen. #}
{% macro spark__lake_is_incremental() -%}
    {{ return(execute and lake_call("is_incremental", [[]]) is not none) }}
{%- endmacro %}

{% macro spark__lake_do(relation, action, options) -%}
    {%- if action == "write" -%}
        {% do lake_stage_files(relation, options) %}
    {%- elif action != "check" -%}
        {% do lake_refuse("a model that is a table, on Spark", action) %}
    {%- elif pre_hooks or post_hooks -%}
        {% do lake_refuse("a model without hooks, on Spark", "one with hooks") %}
    {%- endif -%}
{%- endmacro %}

{#
  Write the rows as the attempt's files, show only these under the relation's name, for the tests,
  and leave the order where Python finds it.
#}
{% macro lake_stage_files(relation, order) -%}
    {%- set by = order.partition_by -%}
    {%- set table = lake_call("staging_table", [[]])[0] -%}
    {%- set columns = [] -%}
    {%- for column in get_column_schema_from_query("select * from " ~ order.source)
        if column.name != "lake_rank" -%}
        {%- do columns.append(adapter.quote(column.name)) -%}
    {%- endfor -%}
    {% call statement("stage") -%}
        create table {{ table }} using parquet
        {% if by %}partitioned by ({{ by }}){% endif %}
        location {{ lake_text(lake_call("staging_place", [[]])[0]) }}
        as
        select {% if by %}/*+ rebalance({{ by }}) */{% endif %} {{ columns | join(", ") }}
        from {{ order.source }}
        {% if order.strategy == "window" %}where {{ touched(by) }}{% endif %}
    {%- endcall %}
    {% call statement("show") -%}
        create or replace temporary view {{ in_session(relation) }} as
        select {{ columns | join(", ") }} from {{ table }}
    {%- endcall %}
    {% call statement("order") -%}
        create or replace temporary view lake_order as
        select {{ lake_text(tojson(order)) }} as document
    {%- endcall %}
{%- endmacro %}

{% macro lake_text(text) -%}
    {{ return("'" ~ (text | replace("\\", "\\\\") | replace("'", "\\'")) ~ "'") }}
{%- endmacro %}

{# Nobody but a session sees its relations: there are no schemas to make. #}
{% macro spark__list_schemas(database) -%}
    {{ return(run_query("select '" ~ target.schema ~ "' as name where false")) }}
{%- endmacro %}

{% macro spark__create_schema(relation) -%}{%- endmacro %}

{# A contract's types, as DuckDB names them, in Spark's names. #}
{% macro spark__get_empty_schema_sql(columns) -%}
    {%- set names = {"varchar": "string", "timestamptz": "timestamp"} -%}
    {%- set casts = [] -%}
    {%- for column in columns.values() -%}
        {%- set kind = column.data_type | lower -%}
        {%- set one = kind.removesuffix("[]") -%}
        {%- set type = names.get(one, one) -%}
        {%- set type = "array<" ~ type ~ ">" if kind.endswith("[]") else type -%}
        {%- do casts.append("cast(null as " ~ type ~ ") as " ~ adapter.quote(column.name)) -%}
    {%- endfor -%}
    select {{ casts | join(", ") }}
{%- endmacro %}
