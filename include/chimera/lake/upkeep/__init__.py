"""Table upkeep: compact files, remove orphaned files, restore an earlier version."""
