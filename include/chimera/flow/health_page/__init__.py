"""The health page in Airflow's UI: routes behind its login, and its controls."""
