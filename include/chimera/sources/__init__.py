"""The sources, one room per kind: each stages the data of a run's window."""
