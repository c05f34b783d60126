"""Rows that a run can't read yet: committed, but newer than an open transaction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldBack:
    """Rows of the window that wait; the first run after the transactions end reads them.

    Args:
        rows: The count so far.
        transactions: How many open or prepared transactions they wait for; 0: the role can't see
            other sessions, and a fixed lag was used instead.
        since: When the oldest transaction began, or the time up to which the source was read; ISO
            8601, UTC.
    """

    rows: int
    transactions: int
    since: str

    def __str__(self) -> str:
        """Describe how many rows wait, for what and since when."""
        count = self.transactions
        held_by = (
            f"{count} open transaction{'s' if count > 1 else ''}, the oldest since {self.since}"
            if count
            else f"sessions that the role can't see; read up to {self.since}"
        )
        return f"{self.rows:,} committed rows of the window wait for {held_by}"
