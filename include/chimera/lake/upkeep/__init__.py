"""The care of tables: files merged, orphaned files removed, an earlier version restored."""
