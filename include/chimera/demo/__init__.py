"""The sample application: its PostgreSQL, API logs and provider metrics, generated or replayed."""
