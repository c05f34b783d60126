{# Fails on each row whose value, unless null, is outside [at_least, at_most]. #}
{% test accepted_range(model, column_name, at_least, at_most) %}

    select {{ column_name }}
    from {{ model }}
    where
        {{ column_name }} < {{ at_least }}
        or {{ column_name }} > {{ at_most }}

{% endtest %}
