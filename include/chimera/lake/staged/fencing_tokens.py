"""Fencing tokens: an attempt never overwrites one that read the source later.

A token is drawn before the source is read. It is the clock in microseconds or, if larger, one more
than the highest token of the table so far, so that an attempt outranks all that began before it,
even if the clocks of two machines disagree. An attempt takes its token by creating a file, so no
other one has the same. The commit of an hour sets the hour's fence to its token, as an app
transaction that expires with the table's `delta.setTransactionRetentionDuration`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.store import storage
from include.chimera.lake.store.places import encoded
from include.chimera.lake.store.storage_errors import storage_errors
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltalake import DeltaTable

WHOLE = "all"
"""Stands for the hour in the fence of a table that is replaced whole."""
_KEPT = 86_400_000_000  # microseconds, a day: no attempt that looked earlier still draws


def fence_mark(hour: str) -> str:
    """Return the app id of one hour's fence."""
    return f"fence:{hour}"


def draw_token(name: str, hours: Iterable[str] = (WHOLE,)) -> int:
    """Draw a token for an attempt that is about to read a source, and take it.

    Args:
        name: `<layer>.<table>`.
        hours: The hours that the attempt may replace.

    Raises:
        LakeError: The disk or store failed.
    """
    table = open_table(name)
    held = [] if table is None else [fence_of(table, hour) for hour in hours]
    folder = f"{get_settings().lake}/_tokens/{encoded(name)}"
    with storage_errors(f"drawing a token of {name}"):
        names = (file.place.rpartition("/")[2] for file in storage.walk(folder))
        taken = [name for name in names if name.isdigit()]
        held += map(int, taken)
        token = max(time.time_ns() // 1000, *(token + 1 for token in held), 0)
        while not storage.create_text(f"{folder}/{token:020d}", ""):
            token += 1
        old = [name for name in taken if int(name) < token - _KEPT]
        storage.delete_files(f"{folder}/{name}" for name in old)
    return token


def fence_of(table: DeltaTable, hour: str) -> int:
    """Return the token of the attempt that published the hour, 0 if the log has none."""
    return table.transaction_version(fence_mark(hour)) or 0
