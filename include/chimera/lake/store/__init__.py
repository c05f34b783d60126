"""Files (local or in an object store) and DuckDB sessions, and the errors of both."""
