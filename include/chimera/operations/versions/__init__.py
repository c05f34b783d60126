"""Versions of tables, side by side: compared by key, and put back to one run."""
