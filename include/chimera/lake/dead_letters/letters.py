"""Dead letters: records that could not be published, each kept once, with the reason.

A letter's id is a hash of its content, not of when it was seen, so a record that overlapping
windows, retries and backfills meet again is refused only once. Payloads are cut to a maximum
length. The table is append-only: whatever happens to a letter later is another event (`replayed`,
`published`, `parked`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from include.chimera.contracts import API_LOGS, CONTRACTS, DEAD_LETTERS, PARTITION, ROW_HASH
from include.chimera.lake.delta.commits import Change, commit, run_metadata
from include.chimera.lake.delta.lineage import metadata_of
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.scans import empty, scan
from include.chimera.lake.delta.tables import contract_table, open_table
from include.chimera.lake.store.duckdb_sessions import among, identifier, quote
from include.chimera.lake.store.places import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

    from include.chimera.window import Run

PAYLOAD_BYTES = 64 * 1024
# Delta reads an empty partition value as null, and a null in a required column makes the whole
# table unreadable (measured with delta-rs 1.6.3).
UNKNOWN_HOUR = "19700101T00"
MAX_ATTEMPTS = 3
Event = Literal["refused", "replayed", "published", "parked"]


def letter_id(source: str) -> str:
    """Return the SQL expression for a record's letter id."""
    return f"md5(concat_ws('|', {quote(source)}, coordinates, reason, md5(payload)))"


def letters_query(records: str, source: str, stage: str, run: Run) -> str:
    """Return a query of dead-letter rows for refused records.

    Args:
        records: Query with the columns reason and coordinates (text), payload (bytes) and
            `_window_hour` (null or empty if the record belongs to no hour).
        source: Bronze table that the records were meant for.
        stage: `extract` or `gate`.
        run: The run that refused them.
    """
    return f"""
        select
            {letter_id(source)} as letter_id,
            'refused' as event,
            cast(0 as bigint) as attempt,
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


def unknown_records(records: str, source: str) -> str:
    """Return a query of the refused records that are not dead letters yet."""
    table = open_table(DEAD_LETTERS.name)
    if table is None:
        return records
    known = f"select letter_id from ({all_events(table)}) where source = {quote(source)}"
    return f"select * from ({records}) where {letter_id(source)} not in ({known})"


def append_letters(
    connection: DuckDBPyConnection, letters: str, run: Run, notes: Mapping[str, str] | None = None
) -> int:
    """Append those events (rows of the contract) that are new; return how many. Idempotent.

    Args:
        connection: DuckDB session that sees the query's relations.
        letters: Query of the events.
        run: The run in which they happened.
        notes: Extra commit metadata: who decided, if a person did.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
    """
    name = DEAD_LETTERS.name
    distinct = f"select distinct on (letter_id, event, attempt) * from ({letters})"
    rows = connection.execute(f"select distinct {PARTITION} from ({letters})").fetchall()
    hours = [hour for (hour,) in rows]
    if not hours:
        return 0

    def decide(table: DeltaTable) -> Change | None:
        known = f"{scan(table, name)} where {among(PARTITION, hours)}"
        new = f"from ({distinct}) anti join ({known}) using (letter_id, event, attempt)"
        files = write_files(
            connection, new, folder_of(name), DEAD_LETTERS.schema, DEAD_LETTERS.partition_by
        )
        if not files:
            return None
        told = {**run_metadata(run), **metadata_of(hours, hours), **(notes or {})}
        return Change(files, metadata=told)

    _, change = commit(name, lambda: contract_table(name), decide)
    return sum(file.rows for file in change.files) if change else 0


def all_events(table: DeltaTable | None) -> str:
    """Return a query of all events of the dead-letter table; no rows if it does not exist."""
    return empty(DEAD_LETTERS.schema) if table is None else scan(table, DEAD_LETTERS.name)


def replayed(source: str, rows: str) -> str:
    """Return a query of those of a table's rows that a replay has published.

    A replay that died before it could say so counts too: its attempt is told, and the row is there.

    Args:
        source: Bronze table.
        rows: Query with the columns of the table's key.
    """
    contract = CONTRACTS[source]
    names = [*contract.key, *(name for name in contract.schema.names if name == ROW_HASH)]
    fields = ", ".join(f"{identifier(name)} := {identifier(name)}" for name in names)
    is_it = f"coordinates = cast(to_json(struct_pack({fields})) as varchar)"
    if source == API_LOGS.name:  # a line that was refused before it was a row
        is_it += (
            " or (coordinates ->> '$.file' = _file"
            " and try_cast(coordinates ->> '$.offset' as bigint) = _offset)"
        )
    return (
        f"select * from ({rows}) where exists (select 1 from "
        f"({all_events(open_table(DEAD_LETTERS.name))}) as letters "
        f"where letters.source = {quote(source)} and event in ('replayed', 'published') "
        f"and ({is_it}))"
    )


def letter_states() -> str:
    """Return a query of each letter's current state: one row per letter.

    The columns are those of the refusal, then `attempts` (replays so far), `state` (`waiting`,
    `published` or `parked`) and `last_reason` (of the newest replay, else of the refusal).
    """
    events = all_events(open_table(DEAD_LETTERS.name))
    return f"""
        select
            letter_id, source, stage, reason, coordinates, payload, payload_bytes,
            recorded_at, run_id, correlation_id, {PARTITION}, attempts, state, last_reason
        from (
            select
                *,
                max(attempt) over each_letter as attempts,
                case
                    when bool_or(event = 'published') over each_letter then 'published'
                    when bool_or(event = 'parked') over each_letter then 'parked'
                    else 'waiting'
                end as state,
                arg_max(reason, (recorded_at, attempt)) over each_letter as last_reason
            from ({events})
            window each_letter as (partition by letter_id)
        )
        where event = 'refused'
    """


def file_letters(source: str) -> str:
    """Return a query of the letters about a file as a whole, with the columns of `letter_states`.

    More columns are `file` (its name), and of a file whose content was refused `written_at` (when
    it was written, as text in ISO 8601) and `bytes` (its length).
    """
    return f"""
        select
            *,
            coordinates ->> '$.file' as file,
            coordinates ->> '$.written_at' as written_at,
            try_cast(coordinates ->> '$.bytes' as bigint) as bytes
        from ({letter_states()})
        where source = {quote(source)} and payload_bytes = 0 and file is not null
    """


def settle_files(connection: DuckDBPyConnection, source: str, rows: str, run: Run) -> None:
    """Close the letters about whole files that no longer say how the file is. Idempotent.

    One whose file, as it was then or later, has rows now is published. One after which the file was
    refused again is parked: the newer letter waits alone.

    Args:
        connection: DuckDB session that sees the rows.
        source: Bronze table that the files are meant for.
        rows: Query of published rows with the columns `report_file` and `updated_at`.
        run: The run that published them.
    """
    waiting = f"from ({file_letters(source)}) where state = 'waiting'"
    published = f"""
        select letters.* from ({waiting}) as letters
        inner join (
            select report_file as file, max(updated_at) as updated_at from ({rows}) group by all
        ) as found using (file)
        where letters.written_at is null
            or try_cast(letters.written_at as timestamptz) <= found.updated_at
    """
    append_letters(connection, event_query(published, "published", run), run)
    overtaken = f"""
        {waiting} qualify recorded_at < max(recorded_at) over (partition by file)
    """
    append_letters(connection, event_query(overtaken, "parked", run, reason="'refused_again'"), run)


def event_query(letters: str, event: Event, run: Run, *, reason: str = "last_reason") -> str:
    """Return a query that adds one event to each letter of a query over `letter_states`.

    Args:
        letters: Query with the columns of `letter_states`; `attempts` includes the attempt that the
            event is about.
        event: What happened to the letters.
        run: The run in which it happened.
        reason: SQL expression of the reason: the rule that broke again, or a person's words.
    """
    return f"""
        select
            letter_id, {quote(event)} as event, attempts as attempt, now() as recorded_at, source,
            stage, {reason} as reason, coordinates, cast(null as blob) as payload,
            cast(0 as bigint) as payload_bytes, {quote(run.run_id)} as run_id,
            {quote(run.correlation_id)} as correlation_id, {PARTITION}
        from ({letters})
    """
