"""The application's PostgreSQL: mutable tables, the reference table of models, deletions."""
