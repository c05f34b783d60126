"""Great Expectations on DuckDB: datasource, expectations, checkpoints and Data Docs."""
