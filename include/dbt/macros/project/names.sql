{# silver and gold in production, dev_silver and dev_gold on a laptop. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set layer = custom_schema_name | trim if custom_schema_name else "silver" -%}
    {{ layer if target.name in ("prod", "spark") else target.name ~ "_" ~ layer }}
{%- endmacro %}
