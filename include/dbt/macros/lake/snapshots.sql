{# Snapshots: dbt's own SQL finds the changes; the lake ends old versions and adds new ones. #}

{% materialization snapshot, adapter="duckdb" %}
    {%- set exists, target_relation = get_or_create_relation(
        model.database, model.schema, model.alias or model.name, "table"
    ) -%}
    {%- if not target_relation.is_table -%}
        {% do exceptions.relation_wrong_type(target_relation, "table") %}
    {%- endif -%}
    {%- set rows = lake_begin() -%}
    {%- set strategy = strategy_dispatch(config.get("strategy"))(
        model, "snapshotted_data", "source_data", model["config"], exists
    ) -%}
    {%- set code = lake_snapshot_changes(strategy, target_relation)
        if exists else lake_snapshot_start(strategy) -%}
    {{ check_time_data_types(code) }}
    {% call statement("main") %}{{ lake_rows(rows, code) }}{% endcall %}
    {%- set columns = lake_snapshot_columns() -%}
    {{ return(lake_finish(target_relation, rows, "snapshot" if exists else "all", {
        "keys": [columns.dbt_scd_id],
        "valid_to": columns.dbt_valid_to,
        "current": config.get("dbt_valid_to_current"),
        "on_schema_change": "append_new_columns",
        "reads_itself": true,
        "may_replace": false,
    })) }}
{% endmaterialization %}

{#
  dbt's comparison of column names is case-sensitive: a column in another spelling would count as
  new, and every row as changed in every snapshot.
#}
{% macro snapshot_check_all_get_existing_columns(node, target_exists, check_cols_config) -%}
    {%- set found = dbt.snapshot_check_all_get_existing_columns(
        node, target_exists, check_cols_config
    ) -%}
    {%- if not found[0] -%}{{ return(found) }}{%- endif -%}
    {%- set wanted = "*" if check_cols_config == "all" else check_cols_config | join(", ") -%}
    {%- set queried = get_columns_in_query(
        "select " ~ wanted ~ " from (\n" ~ node["compiled_code"] ~ "\n) as subq"
    ) -%}
    {%- set target_relation = adapter.get_relation(node.database, node.schema, node.alias) -%}
    {%- set existing = adapter.get_columns_in_relation(target_relation) -%}
    {%- set known = existing | map(attribute="name") | map("lower") | list -%}
    {%- set both = [] -%}
    {%- for column in queried if column | lower in known -%}
        {%- do both.append(adapter.quote(column)) -%}
    {%- endfor -%}
    {{ return((both | length < queried | length, both)) }}
{%- endmacro %}

{% macro lake_snapshot_columns() -%}
    {{ return(config.get("snapshot_table_column_names") or get_snapshot_table_column_names()) }}
{%- endmacro %}

{#
  The first versions. Validity times are timestamps even if `updated_at` is a date, because a
  deleted row's last version ends at the moment of the snapshot.
#}
{% macro lake_snapshot_start(strategy) -%}
    {%- set columns = lake_snapshot_columns() -%}
    {%- set code = build_snapshot_table(strategy, model["compiled_code"]) -%}
    {%- set times = [columns.dbt_valid_from, columns.dbt_valid_to, columns.dbt_updated_at] -%}
    {%- set casts = [] -%}
    {%- for column in get_column_schema_from_query(code) -%}
        {%- if column.name in times and column.dtype == "DATE" -%}
            {%- do casts.append("cast(" ~ column.name ~ " as timestamp) as " ~ column.name) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not casts -%}{{ return(code) }}{%- endif -%}
    {{ return("select * replace (" ~ (casts | join(", ")) ~ ") from (" ~ code ~ ")") }}
{%- endmacro %}

{# The rows to end (update, delete) and to add (insert), without dbt's helper columns. #}
{% macro lake_snapshot_changes(strategy, target_relation) -%}
    {%- set columns = lake_snapshot_columns() -%}
    {{ adapter.assert_valid_snapshot_target_given_strategy(target_relation, columns, strategy) }}
    {%- set keys = strategy.unique_key -%}
    {%- set helpers = ["dbt_unique_key"] -%}
    {%- if keys is not string -%}
        {%- set helpers = [] -%}
        {%- for key in keys -%}
            {%- do helpers.append("dbt_unique_key_" ~ loop.index) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(
        "select * exclude (" ~ (helpers | join(", ")) ~ ") from ("
        ~ snapshot_staging_table(strategy, sql, target_relation) ~ ")"
    ) }}
{%- endmacro %}
