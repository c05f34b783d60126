"""What an engineer on call asks: which log lines, where a row came from, how the run went."""
