"""dbt's `adapter` for sqlfluff, which lints DuckDB's SQL."""

from jinja2 import pass_context


@pass_context
def dispatch(context, name):
    """Return DuckDB's variant of a macro."""
    return context["duckdb__" + name]
