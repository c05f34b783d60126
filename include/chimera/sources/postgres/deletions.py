"""Find rows that are gone from the source by comparing all keys once a day (docs/adr/0006).

A deleted row leaves no trace that a window could see. Its tombstone is one more version of the row,
with `_is_deleted`, later than every earlier version and earlier than any that may follow.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from include.chimera.contracts import IS_DELETED, ROW_HASH, Contract
from include.chimera.errors import ShrinkError
from include.chimera.lake.delta.scans import empty, live_rows
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.lake.store.duckdb_sessions import connect, identifier, quote
from include.chimera.sources.postgres.platform_rows import PlatformRows
from include.chimera.sources.postgres.row_queries import MAX_VALUE_BYTES
from include.chimera.sources.postgres.sessions import snapshot
from include.chimera.sources.row_versions import with_lineage

if TYPE_CHECKING:
    from datetime import datetime

    from include.chimera.profiles.chosen import Intake
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
_MAX_ROWS, _MAX_SHARE = 1000, 0.1


@dataclass(frozen=True)
class _Lake:
    """A table's live rows, pinned before the source is read."""

    contract: Contract

    def rows(self) -> str:
        """Return a query of the newest version of each row that is not deleted."""
        table, (key,) = open_table(self.contract.name), self.contract.key
        if table is None:
            return empty(self.contract.schema)
        return (
            f"select * from (from ({live_rows(table, self.contract)}) qualify row_number() over ("
            f"partition by {identifier(key)} order by updated_at desc, {ROW_HASH} desc) = 1) "
            f"where not {IS_DELETED}"
        )


def extract_deletions(intake: Intake, uri: str, run: Run) -> Batch:
    """Stage a tombstone for each row that the lake holds and the source does not.

    The lake's version is pinned before the source's snapshot, so its rows were in the source
    earlier.

    Args:
        intake: How a table of kind `versions` is filled.
        uri: libpq URI of the application's database.
        run: The run; tombstones are dated before the end of its window.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ShrinkError: More than a tenth of the rows, and more than 1,000, are gone.
    """
    rows = PlatformRows.of(intake)
    contract = rows.contract
    live, (key,) = _Lake(contract).rows(), contract.key
    batch = Batch(contract.name, draw_token(contract.name))
    with snapshot(uri) as source:
        moment = min(source.safe_bound, run.window.end) - timedelta(microseconds=1)
        keys = source.stream(
            f"select {key}::text as {key} from {rows.between()} "
            f"where octet_length({key}::text) <= {MAX_VALUE_BYTES}"
        )
        gone = f"select * from ({live}) anti join source using ({identifier(key)})"
        staged = stage_rows(run, batch, keys, query=_deletions(contract, gone, moment))
    _check_share(rows, live, staged)
    logger.info("staged %s deletions of %s", staged.rows_read, contract.name)
    return staged


def _deletions(contract: Contract, gone: str, moment: datetime) -> str:
    later = (
        f"greatest({quote(moment.isoformat())}::timestamptz, updated_at + interval 1 microsecond)"
    )
    columns = (
        f"{later} as updated_at" if name == "updated_at" else identifier(name)
        for name in contract.source_columns
    )
    return with_lineage(contract, f"select {', '.join(columns)} from ({gone})", deleted="true")


def _check_share(rows: PlatformRows, live: str, staged: Batch) -> None:
    """Refuse a number of deletions that looks like the wrong database."""
    with connect() as connection:
        (known,) = connection.execute(f"select count(*) from ({live})").fetchone() or (0,)
    if staged.rows_read > max(_MAX_ROWS, _MAX_SHARE * known):
        raise ShrinkError(
            expected=f"at most {_MAX_SHARE:.0%} of {known} rows gone since yesterday",
            came=f"{staged.rows_read} gone",
            where=f"{rows.reader.table}, compared with {rows.contract.name}",
            remedy="check that the connection app_db names the right database; deletions on "
            "purpose are taken over in portions",
        )
