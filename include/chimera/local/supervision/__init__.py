"""Supervision of processes from start to end: keeper, locks, signals."""
