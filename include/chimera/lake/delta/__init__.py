"""One Delta table: its columns, constraints, files and partitions, and the one commit."""
