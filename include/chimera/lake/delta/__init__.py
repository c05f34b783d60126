"""One Delta table: its columns, constraints, files and partitions, and how it is committed."""
