"""Real traces replayed as hours."""
