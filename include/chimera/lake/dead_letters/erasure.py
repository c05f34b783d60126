"""Erase payloads of dead letters, when they expire or on a person's request.

Only letters keep raw rows. The payload is erased; the fact that a record was refused, its origin
and the reason stay. A letter without a payload can't be replayed, so one that still waits is parked
first. The vacuum removes the files that held the payloads `vacuum_hours` later, as maintenance does
with the staged files of their runs: only then is an erasure complete.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.chimera.contracts import DEAD_LETTERS, PARTITION
from include.chimera.errors import ConfigurationError, CountError
from include.chimera.lake.dead_letters.letters import append_letters, event_query, letter_states
from include.chimera.lake.delta.commits import Change, commit, run_metadata
from include.chimera.lake.delta.lineage import metadata_of
from include.chimera.lake.delta.parquet_files import write_files
from include.chimera.lake.delta.partitions import Partitions
from include.chimera.lake.delta.scans import scan
from include.chimera.lake.delta.tables import contract_table, open_table
from include.chimera.lake.store.duckdb_sessions import among, connect, quote
from include.chimera.lake.store.places import folder_of
from include.chimera.settings import get_settings
from include.chimera.window import Run, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

EXPIRED = "payload_expired"
SUBJECT_LENGTH = 4


def expired() -> str:
    """Return the SQL condition for letters whose payload is older than `letter_days`."""
    oldest = datetime.now(UTC) - timedelta(days=get_settings().letter_days)
    return f"recorded_at < {quote(oldest.isoformat())}::timestamptz"


def about(subject: str) -> str:
    """Return the SQL condition for letters whose payload names a subject, e.g. a user's id.

    Only whole names match: `user-1` is not in `user-10`. Both the plain name and its JSON escape
    are found, also in payloads that are not valid text.

    Raises:
        ConfigurationError: The name is so short that it would match other people's payloads.
    """
    subject = subject.strip()
    if sum(char.isalnum() for char in subject) < SUBJECT_LENGTH:
        raise ConfigurationError(
            expected=f"a subject with at least {SUBJECT_LENGTH} letters or digits",
            came=f"one with {sum(char.isalnum() for char in subject)}",
            where="the subject of an erasure; nothing was erased",
            remedy="write the whole name as the payloads have it; an unset shell variable is empty",
        )
    forms = sorted({subject, json.dumps(subject)[1:-1]})
    wanted = " || '|' || ".join(
        f"regexp_escape(cast(encode({quote(form)}) as varchar))" for form in forms
    )
    # A blob cast to text writes bytes other than plain characters, and quotation marks, as \xNN.
    before, after = r"(^|[^0-9A-Za-z_-]|\\x[0-9A-F]{2})(", ")($|[^0-9A-Za-z_-])"
    pattern = f"{quote(before)} || {wanted} || {quote(after)}"
    return f"regexp_matches(cast(payload as varchar), {pattern})"


def payloads(condition: str) -> tuple[int, int]:
    """Return the number of payloads that meet an SQL condition, and their total bytes."""
    table = open_table(DEAD_LETTERS.name)
    if table is None:
        return 0, 0
    with connect() as connection:
        count, size = connection.execute(
            f"select count(*), coalesce(sum(octet_length(payload)), 0) from ({_held(table)}) "
            f"where {condition}"
        ).fetchone() or (0, 0)
    return count, int(size)


def erase(condition: str, reason: str, erased_by: str, examples: int = 0) -> int:
    """Erase the payloads that meet a condition; return how many. Idempotent.

    The commit's metadata records who erased how many, and why.

    Args:
        condition: SQL over the letters' rows, see `expired` and `about`.
        reason: Why, for the record.
        erased_by: Who wants it, for the record: a person, or an automatic task.
        examples: How many examples of broken rules are erased along with them, for the record.

    Raises:
        CommitConflictError: Every attempt lost to another writer.
        CountError: The rewritten partitions would lose rows; nothing is committed.
    """
    now = datetime.now(UTC)
    run = Run(f"erase__{now.isoformat()}", Window.of_hour(now), moves_watermark=False)
    if open_table(DEAD_LETTERS.name) is None and not examples:
        return 0
    with connect() as connection:
        waiting = (
            f"select * from ({letter_states()}) where state = 'waiting' "
            f"and payload is not null and {condition}"
        )
        parked = event_query(waiting, "parked", run, reason=quote(reason))
        append_letters(connection, parked, run, {"parked_by": erased_by})
        notes = {"reason": reason, "erased_by": erased_by}
        if examples:
            notes["examples_erased"] = str(examples)
        _, change = commit(
            DEAD_LETTERS.name,
            lambda: contract_table(DEAD_LETTERS.name),
            lambda table: _without_payloads(connection, table, condition, notes, run),
        )
    return int(change.metadata["payloads_erased"]) if change else 0


def _held(table: DeltaTable) -> str:
    return f"select * from ({scan(table, DEAD_LETTERS.name)}) where payload is not null"


def _without_payloads(
    connection: DuckDBPyConnection,
    table: DeltaTable,
    condition: str,
    notes: Mapping[str, str],
    run: Run,
) -> Change | None:
    name = DEAD_LETTERS.name
    found = connection.execute(
        f"select {PARTITION}, count(*) from ({_held(table)}) where {condition} group by all"
    ).fetchall()
    if not found and "examples_erased" not in notes:
        return None
    hours = sorted(hour for hour, _ in found)
    live = f"{scan(table, name)} where {among(PARTITION, hours)}"
    emptied = f"case when payload is not null and {condition} then null else payload end"
    files = write_files(
        connection,
        f"select * replace ({emptied} as payload) from ({live})",
        folder_of(name),
        DEAD_LETTERS.schema,
        DEAD_LETTERS.partition_by,
    )
    (rows,) = connection.execute(f"select count(*) from ({live})").fetchone() or (0,)
    written = sum(file.rows for file in files)
    if written != rows:
        raise CountError(
            expected=f"the {rows} rows of {len(hours)} partitions",
            came=f"{written} rows",
            where=f"table {name}, erasing payloads",
            remedy="run it again; nothing was changed",
        )
    erased = str(sum(count for _, count in found))
    metadata = {**run_metadata(run), **metadata_of((), ()), **notes}
    return Change(
        files, Partitions(PARTITION, tuple(hours)), metadata={**metadata, "payloads_erased": erased}
    )
