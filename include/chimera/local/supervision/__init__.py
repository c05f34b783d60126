"""Processes that are owned from start to end: keeper, locks, signals."""
