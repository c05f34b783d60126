"""Correlation ids, structured logs, metrics."""
