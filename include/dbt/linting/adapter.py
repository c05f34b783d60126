"""dbt's `adapter` for sqlfluff, which lints the SQL that DuckDB gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import pass_context

if TYPE_CHECKING:
    from jinja2.runtime import Context


@pass_context
def dispatch(context: Context, name: str) -> object:
    """Return DuckDB's variant of a macro."""
    return context[f"duckdb__{name}"]
