"""The command line: one app, a module for each group of commands."""
