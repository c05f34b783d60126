"""Files local or in an object store, DuckDB sessions, and what goes wrong with them."""
