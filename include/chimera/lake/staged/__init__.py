"""What waits for its gate: staged files, their manifests and the records of a run."""
