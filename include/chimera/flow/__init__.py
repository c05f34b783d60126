"""The only ring that imports Airflow: tasks, gates, Cosmos wiring, retry policy."""
