"""The application's PostgreSQL: mutable tables, the models, deletions."""
