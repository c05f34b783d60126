"""Provider metrics from Prometheus' HTTP API."""
