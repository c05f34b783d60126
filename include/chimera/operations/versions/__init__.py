"""Versions of tables, side by side: compared by key, put back to one run; what a change does."""
