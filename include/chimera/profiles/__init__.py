"""Profiles: which reader fills each bronze table, from what a platform already has (ADR 29)."""
