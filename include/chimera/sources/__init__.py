"""One room per kind of source; each stages what a run's window asks for."""
