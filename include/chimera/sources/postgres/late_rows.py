"""Find rows that reached the source after their hour was read, by comparing keys once a day.

The database's clock and open transactions bound what is still to come only where the database
stamps the rows. An application that stamps them, and sends them when it can, may be late by hours.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.store.duckdb_sessions import connect, identifier
from include.chimera.sources.postgres.extract import stage_selected
from include.chimera.sources.postgres.platform_rows import PlatformRows
from include.chimera.sources.postgres.row_queries import MAX_VALUE_BYTES
from include.chimera.sources.postgres.sessions import snapshot
from include.chimera.window import HOUR, floor_hour

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from include.chimera.profiles.chosen import Intake
    from include.chimera.sources.postgres.platform_rows import Selection, Span
    from include.chimera.sources.postgres.sessions import SourceSnapshot
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_BEFORE = timedelta(days=1)  # before the run's day: each hour is compared on two days


def extract_late_rows(intake: Intake, uri: str, run: Run) -> Batch:
    """Stage anew the hours in which the source has a key that the lake lacks.

    Compare the hours of the run's window and of the day before it, from the lake's first row up to
    its watermark. Rows that the lake has are duplicates, which its gate leaves out.

    Args:
        intake: How a table of kind `versions` is filled.
        uri: libpq URI of the platform's database.
        run: The run; its window is the day that is compared.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    rows, since = PlatformRows.of(intake), run.window.start - _BEFORE
    name = rows.contract.name
    batch, table = Batch(name, draw_token(name)), open_table(name)
    with snapshot(uri) as source:
        spans: list[Span] = [(since, since)]  # no row, where no hour lacks any
        if table:
            lower, upper = span = _span(table, name, run, since)
            compared = rows.updated_in(span, since=since)
            hours = _hours_with_late_rows(table, rows, source, compared, lower)
            spans += [(max(hour, lower), min(hour + HOUR, upper)) for hour in hours]
        selected = rows.updated_in(*spans, since=since)
        staged = stage_selected(run, batch, rows, source, selected)
    logger.info("staged %s rows of %s hours of %s anew", staged.rows_read, len(spans) - 1, name)
    return staged


def _span(table: DeltaTable, name: str, run: Run, since: datetime) -> Span:
    """Return from when to when (exclusive) the lake claims to have all rows."""
    with connect() as connection:
        query = f"select min(updated_at) from ({scan(table, name)})"
        (first,) = connection.execute(query).fetchone() or (None,)
    mark = table.transaction_version(WATERMARK)
    read_until = datetime.fromtimestamp(mark / 1_000_000, UTC) if mark else run.window.end
    upper = min(read_until, run.window.end)
    lower = max(floor_hour(first), since) if first else upper
    return min(lower, upper), upper


def _hours_with_late_rows(
    table: DeltaTable,
    rows: PlatformRows,
    source: SourceSnapshot,
    compared: Selection,
    lower: datetime,
) -> list[datetime]:
    """Return the starts of the hours with a key that the lake lacks from `lower` on."""
    (key,), lake = rows.contract.key, scan(table, rows.contract.name)
    known = f"select {identifier(key)} from ({lake}) where updated_at >= $lower"
    with connect() as connection:
        keys = source.stream(
            f"select {key}::text as {key}, date_trunc('hour', updated_at) as hour "
            f"from {compared.place} where {compared.inside} "
            f"and octet_length({key}::text) <= {MAX_VALUE_BYTES}"
        )
        connection.register("source", keys)
        found = connection.execute(
            f"select distinct hour from source anti join ({known}) using ({identifier(key)}) "
            "order by hour",
            {"lower": lower},
        ).fetchall()
    return [hour.astimezone(UTC) for (hour,) in found]
