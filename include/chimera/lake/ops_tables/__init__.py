"""The ops tables: ledger, consistent snapshots, idempotent appends."""
