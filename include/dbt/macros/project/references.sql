{# dbt's own, by the names that the engine's session knows. #}

{% macro ref() -%}{{ return(in_session(builtins.ref(*varargs, **kwargs))) }}{%- endmacro %}

{% macro source() -%}{{ return(in_session(builtins.source(*varargs))) }}{%- endmacro %}
