{# The two that the pipeline's models are; what else dbt knows is refused by its name. #}

{% materialization table, adapter="spark" %}
    {%- set rows = lake_begin() -%}
    {% call statement("main") %}{{ lake_rows(rows, compiled_code) }}{% endcall %}
    {{ return(lake_finish(this.incorporate(type="table"), rows, "all")) }}
{% endmaterialization %}

{% materialization incremental, adapter="spark" %}
    {%- set strategy = lake_strategy() -%}
    {%- if strategy.name != "window" -%}
        {% do lake_refuse("incremental_strategy replace_window on Spark", strategy.name) %}
    {%- endif -%}
    {%- set rows = lake_begin() -%}
    {% call statement("main") %}{{ lake_rows(rows, compiled_code) }}{% endcall %}
    {{ return(lake_finish(
        this.incorporate(type="table"), rows, "window" if is_incremental() else "all",
        {"may_replace": should_full_refresh()}
    )) }}
{% endmaterialization %}

{% materialization view, adapter="spark" %}{% do lake_refuse_kind() %}{% endmaterialization %}

{% materialization seed, adapter="spark" %}{% do lake_refuse_kind() %}{% endmaterialization %}

{% materialization snapshot, adapter="spark" %}{% do lake_refuse_kind() %}{% endmaterialization %}

{% macro lake_refuse_kind() -%}
    {% do lake_refuse(
        "materialized='table', or incremental with strategy replace_window, on Spark",
        model.config.materialized
    ) %}
{%- endmacro %}
