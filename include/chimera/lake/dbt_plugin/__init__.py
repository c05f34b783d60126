"""The dbt plugin: its session, catalog, views and incremental strategies."""
