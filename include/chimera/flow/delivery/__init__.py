"""From Airflow's callbacks to Slack and e-mail."""
