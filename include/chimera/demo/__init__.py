"""The sample application: its PostgreSQL, API logs and provider metrics, made up or replayed."""
