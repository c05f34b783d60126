"""Fencing tokens: an attempt never overwrites one that read the source later.

A token is drawn before the source is read. It is the clock in microseconds or, if larger, one more
than the highest token in the table, so that an attempt that starts after another one's commit
outranks it even if the clocks of two machines disagree. The commit of an hour sets the hour's fence
to its token, as an app transaction that expires with the table's
`delta.setTransactionRetentionDuration`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from include.chimera.lake.delta.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltalake import DeltaTable

WHOLE = "all"
"""Stands for the hour in the fence of a table that is replaced whole."""


def fence_mark(hour: str) -> str:
    """Return the app id of one hour's fence."""
    return f"fence:{hour}"


def draw_token(name: str, hours: Iterable[str] = (WHOLE,)) -> int:
    """Draw a token for an attempt that is about to read a source.

    Args:
        name: `<layer>.<table>`.
        hours: The hours that the attempt may replace.
    """
    table = open_table(name)
    held = [] if table is None else [fence_of(table, hour) for hour in hours]
    return max(time.time_ns() // 1000, *(token + 1 for token in held), 0)


def fence_of(table: DeltaTable, hour: str) -> int:
    """Return the token of the attempt that published the hour, 0 if the log has none."""
    return table.transaction_version(fence_mark(hour)) or 0
