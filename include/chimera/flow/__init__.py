"""The only Airflow-aware ring: tasks, gates, Cosmos wiring, retry policy."""
