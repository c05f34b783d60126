"""Announcements from Airflow's callbacks to Slack and e-mail."""
