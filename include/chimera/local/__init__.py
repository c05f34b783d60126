"""The embedded default: one command that starts, supervises and stops real servers locally."""
