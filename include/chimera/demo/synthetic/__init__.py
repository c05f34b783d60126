"""Made-up hours: draws, rhythm, log lines and telemetry."""
