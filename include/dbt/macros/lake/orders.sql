{# How a materialization passes a model to include/chimera/lake/dbt_plugin/materializations.py. #}

{# Run the pre-hooks and return the relation that will hold the model's rows. #}
{% macro lake_begin() -%}
    {% do lake_check() %}
    {% do lake_show(model.compiled_code, lake_parents(model)) %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if model.language == "python" -%}
        {%- set suffix = "__dbt_py" ~ adapter.batch_id_for_model(model) -%}
        {%- set identifier = this.identifier ~ suffix -%}
        {%- set rows = this.incorporate(path={"identifier": identifier}, type="table") -%}
        {% call statement("clear") %}drop table if exists {{ rows }}{% endcall %}
        {% do adapter.commit() %}
        {{ return(rows) }}
    {%- endif -%}
    {{ return(api.Relation.create(identifier=this.identifier ~ "__dbt_tmp", type="view")) }}
{%- endmacro %}

{#
  The statement that creates a relation of the rows: a temporary view of the model's SQL, or a table
  of its data frame. Each materialization runs it, because dbt lets only those run Python.
#}
{% macro lake_rows(rows, code) -%}
    {%- if model.language == "python" -%}
        {{ return(dbt.py_write_table(temporary=False, relation=rows, compiled_code=code)) }}
    {%- endif -%}
    {%- if config.get("contract").enforced -%}
        {% set checked = get_assert_columns_equivalent(code) %}
        {%- set code = get_select_subquery(code) -%}
    {%- endif -%}
    {{ config.get("sql_header") or "" }}
    create or replace temporary view {{ rows }} as (
        {{ code }}
    )
{%- endmacro %}

{# End a transaction, where the engine has them. #}
{% macro lake_commit() -%}
    {{ return(adapter.dispatch("lake_commit")()) }}
{%- endmacro %}

{% macro duckdb__lake_commit() -%}{% do adapter.commit() %}{%- endmacro %}

{# Store the rows, run the post-hooks, and return the relations to dbt. #}
{% macro lake_finish(target_relation, rows, strategy, options={}) -%}
    {% do lake_commit() %}
    {% do lake_store(target_relation, rows, strategy, options) %}
    {% call statement("release", auto_begin=False) -%}
        drop {{ rows.type }} if exists {{ rows }}
    {%- endcall %}
    {% do apply_grants(target_relation, config.get("grants")) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do lake_commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({"relations": [target_relation]}) }}
{%- endmacro %}

{# Store the rows of a relation in a table of the lake. #}
{% macro lake_store(target_relation, rows, strategy, options={}) -%}
    {%- set constraints = lake_constraints() -%}
    {%- set on_schema_change = config.get("on_schema_change") -%}
    {%- set order = {
        "source": rows.render(),
        "strategy": strategy,
        "parents": lake_parents(model),
        "model": model.unique_id,
        "invocation_id": invocation_id,
        "partition_by": config.get("partition_by"),
        "on_schema_change": incremental_validate_on_schema_change(on_schema_change, "ignore"),
        "required": constraints.required,
        "checks": constraints.checks,
        "comments": lake_column_comments(adapter.get_columns_in_relation(rows)),
        "description": model.description if config.persist_relation_docs() else none,
        "properties": config.get("table_properties") or {},
        "reads_itself": target_relation.render() in (model.compiled_code or ""),
        "may_replace": true,
        "is_full_refresh": should_full_refresh(),
        "partial": lake_partial(),
        "is_deferred": lake_is_deferred(),
    } -%}
    {% do order.update(options) %}
    {% do lake_do(target_relation, "write", order) %}
{%- endmacro %}

{# `empty` or `sample` if dbt makes models read only part of their parents, else none. #}
{% macro lake_partial() -%}
    {%- if flags.EMPTY -%}{{ return("empty") }}{%- endif -%}
    {{ return("sample" if invocation_args_dict.get("sample") else none) }}
{%- endmacro %}

{# May parents resolve to another target's relations? Then their names don't say what is read. #}
{% macro lake_is_deferred() -%}
    {{ return(invocation_args_dict.get("defer") == true and not lake_is_preview()) }}
{%- endmacro %}

{#
  Does this process build beside a published lake, some hours anew? Then parents are what their
  names say, and no model adds to what the unchanged one has built.
#}
{% macro lake_is_preview() -%}
    {{ return(adapter.dispatch("lake_is_preview")()) }}
{%- endmacro %}

{% macro duckdb__lake_is_preview() -%}
    {{ return(execute and lake_ask("lake_is_preview", "")) }}
{%- endmacro %}

{# A table left by `--empty` or `--sample` is not incremental: the next build rebuilds it whole. #}
{% macro is_incremental() -%}
    {{ return(adapter.dispatch("lake_is_incremental")()) }}
{%- endmacro %}

{% macro duckdb__lake_is_incremental() -%}
    {%- if not dbt.is_incremental() -%}{{ return(false) }}{%- endif -%}
    {{ return(not (lake_is_partial(this) or lake_is_preview())) }}
{%- endmacro %}

{% macro lake_is_partial(relation) -%}
    {{ return(lake_ask("lake_is_partial", lake_name(relation))) }}
{%- endmacro %}

{# Comment by column if comments are persisted, else none. dbt warns of unknown columns. #}
{% macro lake_column_comments(existing) -%}
    {%- if not (config.persist_column_docs() and model.columns) -%}{{ return(none) }}{%- endif -%}
    {%- set names = existing | map(attribute="name") | list -%}
    {%- set known = validate_doc_columns(this, model.columns, names) -%}
    {%- set comments = {} -%}
    {%- for column in known.values() -%}
        {%- do comments.update({column.name: column.description or ""}) -%}
    {%- endfor -%}
    {{ return(comments) }}
{%- endmacro %}

{# Constraints of an enforced contract, checked by each commit. Delta can't check keys. #}
{% macro lake_constraints() -%}
    {%- set found = {"required": [], "checks": {}} -%}
    {%- if config.get("contract").enforced -%}
        {%- for column in (model.columns or {}).values() -%}
            {%- for constraint in column.constraints or [] -%}
                {% do lake_add_constraint(found, constraint, [column.name]) %}
            {%- endfor -%}
        {%- endfor -%}
        {%- for constraint in model.constraints or [] -%}
            {% do lake_add_constraint(found, constraint, constraint.columns or []) %}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{%- endmacro %}

{% macro lake_add_constraint(found, constraint, columns) -%}
    {%- set kind = constraint.type | string -%}
    {%- if kind in ("not_null", "primary_key") -%}
        {%- do found.required.extend(columns) -%}
    {%- endif -%}
    {%- if kind == "check" -%}
        {%- set name = constraint.name or "check_" ~ (found.checks | length + 1) -%}
        {%- do found.checks.update({name: constraint.expression}) -%}
    {%- elif kind != "not_null" -%}
        {% do adapter.warn_once(
            "Delta can't enforce a " ~ kind ~ " constraint: add a dbt test to " ~ this
        ) %}
    {%- endif -%}
{%- endmacro %}
