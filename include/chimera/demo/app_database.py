"""The sample application's PostgreSQL: its schema, its rows and a record of the seeded hours."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adbc_driver_manager import dbapi as adbc
from adbc_driver_postgresql import dbapi

from include.chimera.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pyarrow as pa

SCHEMA = Path(__file__).with_name("schema.sql")
_STAGE = "demo_stage"
_LOCK = 7_201_447  # an arbitrary number, the same for each seeding
# A session that waits for a table's lock blocks all later ones, so give up and try again later.
_LOCK_TIMEOUT = "2s"
_CREATES = re.compile(r"^create (\w+) if not exists (\w+)(\.\w+)?(?: on (\w+)\.)?", re.MULTILINE)


@dataclass(frozen=True)
class SeededHour:
    """One hour that the sample application holds."""

    hour: datetime
    fingerprint: str
    generations: int
    evaluations: int
    log_lines: int
    metric_samples: int


class Database:
    """One connection; nothing is visible to others before `commit`."""

    def __init__(self, connection: adbc.Connection) -> None:
        self._connection = connection

    def lock(self) -> None:
        """Wait until no other session seeds, and keep others waiting until `commit`.

        Also limit the wait for locks that the application's own sessions need to 2 s.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(f"select pg_advisory_xact_lock({_LOCK})")
            cursor.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")

    def create_schema(self) -> None:
        """Create the missing parts of the schema, without touching existing ones.

        `create index if not exists` locks its table even if the index exists: it would wait for any
        transaction that has written, and all writers would wait behind it.
        """
        self.lock()
        for statement in SCHEMA.read_text(encoding="utf-8").split(";\n"):
            found = _CREATES.search(statement)
            if found and not self._exists(*found.groups()):
                with self._connection.cursor() as cursor:
                    cursor.execute(statement)

    def _exists(self, kind: str, first: str, second: str | None, on: str | None) -> bool:
        """Does the object exist? An index is looked up in its table's schema."""
        name = f"{on}.{first}" if kind == "index" else f"{first}{second or ''}"
        catalog = "to_regnamespace" if kind == "schema" else "to_regclass"
        with self._connection.cursor() as cursor:
            cursor.execute(f"select {catalog}('{name}') is not null")
            return bool(cursor.fetchall()[0][0])

    def seeded_hours(self) -> dict[datetime, SeededHour]:
        """Return the hours that exist, by their start."""
        with self._connection.cursor() as cursor:
            cursor.execute("select * from app_demo.seeded_hours order by hour")
            rows = [SeededHour(*row) for row in cursor.fetchall()]
        return {row.hour: row for row in rows}

    def remember(self, hour: SeededHour) -> None:
        """Record that an hour exists."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "insert into app_demo.seeded_hours values ($1, $2, $3, $4, $5, $6)",
                tuple(vars(hour).values()),
            )

    def upsert(self, table: str, rows: pa.Table) -> None:
        """Load rows whose first column is the key; the newer of two versions wins.

        Rows that exist already are filtered out, because `on conflict` alone would lock them.

        Args:
            table: Name within the schema `app`.
            rows: Rows with `updated_at`, in the columns of the table.
        """
        if rows.num_rows == 0:
            return
        key, *others = rows.column_names
        selected = f"{key}::uuid" if key != "model_id" else key
        columns = ", ".join(rows.column_names)
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(_STAGE, rows, mode="create", temporary=True)
            cursor.execute(
                f"insert into app.{table} ({columns}) "
                f"select {selected}, {', '.join(others)} from pg_temp.{_STAGE} as staged "
                f"where not exists (select from app.{table} as held where held.{key} = "
                f"staged.{selected} and held.updated_at >= staged.updated_at) "
                f"on conflict ({key}) do update set {changes} "
                f"where excluded.updated_at > {table}.updated_at"
            )
            cursor.execute(f"drop table pg_temp.{_STAGE}")

    def count_models(self) -> int:
        """Return how many rows app.models has."""
        with self._connection.cursor() as cursor:
            cursor.execute("select count(*) from app.models")
            ((count,),) = cursor.fetchall()
        return int(count)

    def commit(self) -> None:
        """Make everything since the last commit visible, and release the lock."""
        self._connection.commit()


@contextmanager
def connect(uri: str) -> Iterator[Database]:
    """Open one connection; roll back uncommitted changes at the end.

    Args:
        uri: A libpq URI, unix sockets included (`postgresql://user:@/name?host=/folder`).

    Raises:
        SourceUnavailableError: The server denies access, the connection broke, or another session
            holds a lock that we need; may be retried.
    """
    try:
        connection = dbapi.connect(uri)
    except adbc.Error as error:
        raise SourceUnavailableError(
            expected="the sample application's PostgreSQL",
            came=type(error).__name__,
            where=uri.rpartition("@")[2],
            remedy="start the server, create the database, then seed again",
        ) from error
    with connection:
        try:
            yield Database(connection)
        except adbc.Error as error:
            raise SourceUnavailableError(
                expected=f"an answer, and each lock within {_LOCK_TIMEOUT}",
                came=f"{type(error).__name__} ({error.sqlstate or 'no SQLSTATE'})",
                where=f"the sample application's PostgreSQL, {uri.rpartition('@')[2]}",
                remedy="seed again; 55P03: look for long transactions in pg_stat_activity",
            ) from None  # its text may hold a row
