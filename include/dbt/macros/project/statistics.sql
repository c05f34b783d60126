{#
  The bounds of a proportion's two-sided 95 % score interval, to nine digits; null without trials.
  Source: E. B. Wilson, JASA 22 (1927).
#}
{% macro wilson_lower(ratio, trials) -%}
    case
            when {{ ratio }} is not null
                then round(greatest({{ wilson_bound(ratio, "-", trials) }}, 0), 9)
        end
{%- endmacro %}

{% macro wilson_upper(ratio, trials) -%}
    case
            when {{ ratio }} is not null
                then round(least({{ wilson_bound(ratio, "+", trials) }}, 1), 9)
        end
{%- endmacro %}

{# z is the 97.5 % point of the standard normal distribution. #}
{% macro wilson_bound(ratio, sign, trials) -%}
    {%- set z, count = "1.959963984540054e0", "nullif(" ~ trials ~ ", 0)" -%}
    (
                    {{ ratio }} + {{ z }} * {{ z }} / (2 * {{ count }})
                    {{ sign }} {{ z }} * sqrt(
                        {{ ratio }} * (1 - {{ ratio }}) / {{ count }}
                        + {{ z }} * {{ z }} / (4e0 * {{ count }} * {{ count }})
                    )
                ) / (1 + {{ z }} * {{ z }} / {{ count }})
{%- endmacro %}
