"""Staged files and their manifests, and the records of a run."""
