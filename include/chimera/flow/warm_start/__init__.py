"""What tasks need is loaded before the process that forks them does so."""
