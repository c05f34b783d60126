"""The embedded default: real servers on one machine, owned from start to end by one command."""
