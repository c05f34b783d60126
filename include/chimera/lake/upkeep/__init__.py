"""The care of tables: files merged, leftovers removed, an earlier version restored."""
