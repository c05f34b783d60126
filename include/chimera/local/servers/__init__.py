"""The servers of one machine: PostgreSQL, Airflow, the sample application."""
