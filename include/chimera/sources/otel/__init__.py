"""Spans of OpenTelemetry, as a Collector writes them into files."""
