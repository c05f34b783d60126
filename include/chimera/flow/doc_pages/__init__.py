"""What Airflow's UI shows of DAGs and tasks."""
