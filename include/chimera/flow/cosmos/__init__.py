"""Cosmos: the dbt graph as tasks, dbt's events and failures."""
