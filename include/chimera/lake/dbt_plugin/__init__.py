"""The dbt plugin: its session, catalogue, views, and incremental strategies."""
