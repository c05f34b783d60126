"""The sample's metrics: OpenMetrics files and the small server that answers for them."""
