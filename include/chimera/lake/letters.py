"""Dead letters: records that could not be published, each kept once, with the reason.

A letter's id is a hash of what it is, not of when it was seen, so that a record which overlapping
windows, retries and backfills meet again is refused once. Payloads are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.chimera.contracts import DEAD_LETTERS, PARTITION
from include.chimera.lake.commits import Change, commit, run_metadata
from include.chimera.lake.engine import among, quote
from include.chimera.lake.files import write_files
from include.chimera.lake.lineage import metadata_of
from include.chimera.lake.relations import scan
from include.chimera.lake.tables import contract_table, folder_of

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.window import Run

PAYLOAD_BYTES = 64 * 1024
# Delta takes an empty partition value for null, and a null in a required column makes the whole
# table unreadable (measured with delta-rs 1.6.3).
UNKNOWN_HOUR = "19700101T00"


def letters_query(records: str, source: str, stage: str, run: Run) -> str:
    """Return the query of dead-letter rows for refused records.

    Args:
        records: Query with the columns reason and coordinates (text), payload (bytes) and
            `_window_hour` (null or empty where the record belongs to no hour).
        source: Bronze table that the records were meant for.
        stage: `extract` or `gate`.
        run: The run that refused them.
    """
    return f"""
        select
            md5(concat_ws('|', {quote(source)}, coordinates, reason, md5(payload))) as letter_id,
            'refused' as event,
            now() as recorded_at,
            {quote(source)} as source,
            {quote(stage)} as stage,
            reason,
            coordinates,
            payload[1:{PAYLOAD_BYTES}] as payload,
            octet_length(payload) as payload_bytes,
            {quote(run.run_id)} as run_id,
            {quote(run.correlation_id)} as correlation_id,
            coalesce(nullif({PARTITION}, ''), {quote(UNKNOWN_HOUR)}) as {PARTITION}
        from ({records})
    """


def append_letters(connection: DuckDBPyConnection, letters: str, run: Run) -> int:
    """Append the letters (rows of the contract) that are not known yet; return how many.

    Raises:
        CommitConflictError: Other writers won again and again.
    """
    name = DEAD_LETTERS.name
    distinct = f"select distinct on (letter_id) * from ({letters})"
    rows = connection.execute(f"select distinct {PARTITION} from ({letters})").fetchall()
    hours = [hour for (hour,) in rows]
    if not hours:
        return 0

    def decide(table: DeltaTable) -> Change | None:
        known = f"{scan(table, name)} where {among(PARTITION, hours)}"
        new = f"from ({distinct}) anti join ({known}) using (letter_id, event)"
        files = write_files(
            connection, new, folder_of(name), DEAD_LETTERS.schema, DEAD_LETTERS.partition_by
        )
        if not files:
            return None
        return Change(files, metadata={**run_metadata(run), **metadata_of(hours, hours)})

    _, change = commit(name, lambda: contract_table(name), decide)
    return sum(file.rows for file in change.files) if change else 0
