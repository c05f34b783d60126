"""Provider metrics by Prometheus' HTTP API."""
