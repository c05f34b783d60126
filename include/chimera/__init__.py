"""The hourly analytics pipeline of Chimera: everything that is not wiring."""
