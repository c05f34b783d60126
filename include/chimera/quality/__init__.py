"""Gates: the rules that a table's rows must pass before they are published.

Rules are written once per table (`include/gx/rules/*.yml`), compiled to a GX project
(`include/gx/`) that runs on DuckDB, and compiled again to the SQL that splits good rows from bad.
"""
