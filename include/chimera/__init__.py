"""The hourly analytics pipeline of Chimera: everything that is not wiring."""

__version__ = "1.0.0"
"""The release: CHANGELOG.md opens with it."""
