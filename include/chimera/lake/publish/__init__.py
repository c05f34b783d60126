"""Commit staged rows and model builds as new table versions, and verify bronze commits."""
