"""Versions of tables, side by side: compared by key, put back to one run, and what a change makes."""
