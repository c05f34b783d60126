"""Open sessions with the application's database, one snapshot each, and find its safe bound.

A connection sets nothing but the application name: PgBouncer in transaction mode refuses other
start-up parameters and forgets `set` at the end of a transaction. Everything else is set inside
the transaction that needs it.
"""

from __future__ import annotations

import logging
import re
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from include.chimera.errors import (
    ChimeraError,
    ConfigurationError,
    ContractError,
    SourceUnavailableError,
)
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

APPLICATION = "chimera_extract"
_STATEMENT_TIMEOUT_MS = 240_000
# Batches of 2 MiB instead of the driver's 16, several of which are queued at once: the peak for
# 4 M rows is 67 MiB lower (2026-11-24).
_BATCHES = {"adbc.postgresql.batch_size_hint_bytes": str(2 << 20)}

_MARGIN = "5 seconds"

# A transaction that began earlier may commit rows with an older updated_at than rows already seen,
# so reading stops before the oldest open transaction. Measured on PostgreSQL 15 and 18.
# Without pg_read_all_stats, on a standby, or if a session hides its activity, xact_start is null
# and the bound would be silently wrong. Our own sessions and autovacuum write no rows.
_BOUND = f"""
    with open as materialized (
        select xact_start as since from pg_stat_activity
        where pid <> pg_backend_pid() and datname = current_database()
            and application_name <> '{APPLICATION}'
            and backend_type <> 'autovacuum worker'
        union all
        select prepared - interval '15 minutes' from pg_prepared_xacts
        where database = current_database()
    )
    select
        pg_has_role(current_user, 'pg_read_all_stats', 'usage')
        and not pg_is_in_recovery()
        and not exists (
            select from pg_stat_activity
            where datname = current_database() and state = 'disabled'
        ),
        clock_timestamp(),
        least(clock_timestamp() - interval '{_MARGIN}', (select min(since) from open)),
        coalesce((select array_agg(since) from open where since is not null), '{{}}')
"""
_BEGIN = (
    "begin isolation level repeatable read read only",
    f"set local statement_timeout = {_STATEMENT_TIMEOUT_MS}",
    "set local TimeZone = 'UTC'",
    "set local DateStyle = 'ISO'",
)
_REFUSED_LOGIN = ("28", "3D", "42501")
# What libpq or the server says of a login or a setting that no retry mends.
_CLOSED = re.compile(
    r"authentication|no password|does not exist|pg_hba\.conf|not permitted|permission denied|"
    r"certificate|private key|does not support SSL|no SSL|invalid|weak sslmode|unrecognized|"
    r"no protocols available|method"
)
_LONGEST = 500  # characters of libpq's text in a message
_NOT_THERE = ("42P01", "42703", "3F000")


class LibpqUri(str):
    """A libpq URI, with a password."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return nothing of the URI."""
        return f"{type(self).__name__}(…)"


@dataclass(frozen=True)
class SourceSnapshot:
    """One REPEATABLE READ READ ONLY transaction.

    Args:
        cursor: Its cursor; read one result at a time.
        safe_bound: No more rows with an older `updated_at` (exclusive) can appear.
        is_blind: Whether the bound is a fixed lag because other sessions are not visible.
        open_since: The start of each open transaction of other sessions.
    """

    cursor: dbapi.Cursor
    safe_bound: datetime
    is_blind: bool
    open_since: tuple[datetime, ...] = ()

    def stream(self, query: str) -> pa.RecordBatchReader:
        """Run a query and stream its rows as Arrow batches."""
        with _translated():
            self.cursor.adbc_statement.set_options(**_BATCHES)
            self.cursor.execute(query)
            reader = self.cursor.fetch_record_batch()
        return pa.RecordBatchReader.from_batches(reader.schema, _batches(reader))

    def count(self, table: str, where: str) -> int:
        """Count the rows of `<schema>.<table>` that meet a condition."""
        with _translated():
            self.cursor.execute(f"select count(*) from {table} where {where}")
            return int(self.cursor.fetchall()[0][0])

    def columns(self, table: str) -> dict[str, str]:
        """Return PostgreSQL's type name by column of `<schema>.<table>`; {} if it is missing."""
        with _translated():
            self.cursor.execute(
                "select attribute.attname, type.typname from pg_attribute as attribute "
                "join pg_type as type on type.oid = attribute.atttypid "
                f"where attribute.attrelid = to_regclass('{table}') "
                "and attribute.attnum > 0 and not attribute.attisdropped"
            )
            return dict(self.cursor.fetchall())

    def result_columns(self, rows: str) -> dict[str, str]:
        """Return PostgreSQL's type name by column of what may stand after `from`; run nothing."""
        with _translated():
            self.cursor.execute(f"select * from {rows} limit 0")
            names = [column[0] for column in self.cursor.description]
            self.cursor.fetchall()
            asked = ", ".join(
                "(select typname::text from pg_type where oid = pg_typeof("
                f'platform_rows."{name}")::oid)'
                for name in names
            )
            self.cursor.execute(f"select {asked} from (select) as one left join {rows} on false")
            return dict(zip(names, self.cursor.fetchall()[0], strict=True))

    def has_unique_key(self, table: str, key: Sequence[str]) -> bool:
        """Does an unconditional unique index cover exactly the key of `<schema>.<table>`?"""
        names = ", ".join(f"'{name}'" for name in sorted(key))
        with _translated():
            self.cursor.execute(
                "select exists (select from pg_index as index "
                f"where index.indrelid = to_regclass('{table}') and index.indisunique "
                "and index.indisvalid and index.indimmediate and index.indpred is null "
                f"and array[{names}] = (select array_agg(attname::text order by attname::text) "
                "from pg_attribute where attrelid = index.indrelid "
                "and attnum = any (index.indkey::int2[])) "
                "and not 0 = any (index.indkey::int2[]))"
            )
            return bool(self.cursor.fetchall()[0][0])


@contextmanager
def _connected(uri: str) -> Iterator[dbapi.Cursor]:
    name = urlencode({"application_name": APPLICATION})
    place = f"{uri}{'&' if '?' in uri else '?'}{name}"
    try:
        connection = dbapi.connect(place, autocommit=True)
    except adbc_driver_manager.Error as error:
        raise _no_connection(str(error)) from None
    with closing(connection), closing(connection.cursor()) as cursor:
        yield cursor


def clock(uri: str) -> datetime:
    """Return the database's own time, minus the margin that the safe bound always keeps.

    Raises:
        SourceUnavailableError: The database can't be reached.
        ConfigurationError: The database refuses the login.
    """
    with _connected(uri) as cursor, _translated():
        cursor.execute(f"select clock_timestamp() - interval '{_MARGIN}'")
        now: datetime = cursor.fetchall()[0][0]
    return now


@contextmanager
def snapshot(uri: str) -> Iterator[SourceSnapshot]:
    """Open a read-only snapshot, after reading its safe bound.

    Args:
        uri: libpq URI of the primary, or of a PgBouncer in front of it.

    Raises:
        SourceUnavailableError: The database can't be reached, the connection broke, or a statement
            timed out.
        ConfigurationError: The database refuses the login.
        ContractError: A table or column is missing.
    """
    with _connected(uri) as cursor:
        with _translated():
            cursor.execute(_BOUND)
            can_see, clock, bound, since = cursor.fetchall()[0]
            for statement in _BEGIN:
                cursor.execute(statement)
        if can_see:
            yield SourceSnapshot(cursor, bound, is_blind=False, open_since=tuple(since))
        else:
            yield SourceSnapshot(cursor, _blind_bound(clock), is_blind=True)
        with _translated():
            cursor.execute("rollback")


def _blind_bound(clock: datetime) -> datetime:
    lag = get_settings().blind_lag_minutes
    logger.warning(
        "the role can't see all transactions (pg_read_all_stats, on the primary): "
        "mutable tables are read %s minutes behind the clock",
        lag,
    )
    return clock - timedelta(minutes=lag)


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with _translated():
        yield from reader


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the driver's errors into ours; their text may hold a row or a secret."""
    try:
        yield
    except (adbc_driver_manager.Error, OSError, pa.ArrowException) as error:
        raise _translation(error, getattr(error, "sqlstate", None) or "no SQLSTATE") from None


def _no_connection(text: str) -> ChimeraError:
    """Return our error for a connection that libpq could not open.

    libpq gives no SQLSTATE then, and its text no row and no password.
    """
    came = text.removeprefix("IO: [libpq] Failed to connect: ").strip()[:_LONGEST]
    where = "Airflow connection app_db"
    if _CLOSED.search(came):
        return ConfigurationError(
            expected="a database that lets us in",
            came=came,
            where=where,
            remedy="correct the connection's login, password, schema (the database) or extra "
            "(sslmode, sslrootcert, …), or the server's pg_hba.conf",
        )
    return SourceUnavailableError(
        expected="a connection to the application's database",
        came=came,
        where=where,
        remedy="check that the server is up and that the connection's host and port are right",
    )


def _translation(error: Exception, state: str) -> ChimeraError:
    came = f"{type(error).__name__} ({state})"
    where = "Airflow connection app_db"
    if state.startswith(_REFUSED_LOGIN):
        return ConfigurationError(
            expected="a database that lets us read",
            came=came,
            where=where,
            remedy="check the connection's login, password and database, and the role's grants",
        )
    if state in _NOT_THERE:
        return ContractError(
            expected="the tables and columns of the contract",
            came=came,
            where=where,
            remedy="compare the source's tables with docs/data-dictionary.md",
        )
    if isinstance(error, pa.ArrowInvalid):
        return ContractError(
            expected="rows whose values Arrow can carry",
            came=came,
            where=where,
            remedy="look in the source's rows of this window for values that no column of the "
            "lake holds, and correct them there",
        )
    return SourceUnavailableError(
        expected="an answer from the application's database",
        came=came,
        where=where,
        remedy="check that the server is up and that the connection's host and login are right",
    )
