"""Rows that a run can not take yet: committed, but newer than a transaction that is open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldBack:
    """Rows of the window that wait; the first run after the transactions' end takes them.

    Args:
        rows: How many there are so far.
        transactions: How many open or prepared transactions they wait for; 0: the role can't see
            other sessions, and a fixed lag was kept instead.
        since: When the oldest of them began, or up to when was read; ISO 8601, UTC.
    """

    rows: int
    transactions: int
    since: str

    def __str__(self) -> str:
        """Say how many rows wait for what, since when."""
        count = self.transactions
        held_by = (
            f"{count} open transaction{'s' if count > 1 else ''}, the oldest since {self.since}"
            if count
            else f"sessions that the role can't see; read up to {self.since}"
        )
        return f"{self.rows:,} committed rows of the window wait for {held_by}"
