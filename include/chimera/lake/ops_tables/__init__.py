"""The tables of operations: ledger, consistent snapshots, appends that happen once."""
