"""Generated hours: draws, rhythm, log lines and telemetry."""
