"""Try the application's database as an hour does: login, grants, sight of transactions, clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.chimera.errors import ConfigurationError
from include.chimera.observe.findings import checking, skew
from include.chimera.profiles.chosen import sources
from include.chimera.sources.postgres.column_check import check_columns
from include.chimera.sources.postgres.platform_rows import PlatformRows
from include.chimera.sources.postgres.sessions import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.observe.findings import Finding

_LOGIN = """
    select current_user::text, current_setting('server_version'),
        coalesce((select version from pg_stat_ssl where pid = pg_backend_pid() and ssl), ''),
        inet_client_addr() is null, pg_is_in_recovery(), clock_timestamp()
"""
_INDEX = """
    select exists (
        select from pg_index as index
        join pg_attribute as attribute
            on attribute.attrelid = index.indrelid and attribute.attnum = index.indkey[0]
        where index.indrelid = to_regclass('{table}') and index.indisvalid
            and attribute.attname = 'updated_at'
    )
"""


def check_database(uri: str) -> Iterator[Finding]:
    """Check everything that an hour needs of the application's database."""
    with checking("database: login") as login, snapshot(uri) as source:
        source.cursor.execute(_LOGIN)
        user, version, tls, is_local, is_standby, now = source.cursor.fetchall()[0]
        kind = (
            "a UNIX socket" if is_local else tls or "NO TLS: sslmode=verify-full would ask for it"
        )
        login.text = f"as {user}, PostgreSQL {version}, {kind}"
    yield login.finding()
    if login.faults:
        return
    with checking("database: sight") as sight:
        sight.text = "open transactions of others are seen"
        if is_standby:
            sight.fault("a standby, whose transactions can't be seen", "connect to the primary")
        elif source.is_blind:
            remedy = f"grant pg_read_all_stats to {user};"
            sight.fault("open transactions of others are not seen: rows come an hour late", remedy)
    yield sight.finding()
    yield skew("database: clock", now)
    for intake in sources()["app_db"]:
        rows = PlatformRows.of(intake)
        yield _check_query(uri, rows, user) if rows.query else _check_table(uri, rows, user)


def _check_query(uri: str, rows: PlatformRows, user: str) -> Finding:
    """Let PostgreSQL plan a profile's query, for which the role needs all that it reads."""
    table, found = rows.reader.table, rows.contract.table
    with checking(f"database: {found}, by {rows.reader.query}") as query, snapshot(uri) as source:
        if not source.columns(table):
            query.fault(f"no such table as {table}", "set the connection's database and schema")
            return query.finding()
        try:
            query.text = f"{len(rows.present(source))} columns can be read"
        except ConfigurationError as error:
            remedy = f"run the grants on the profile's page, for {user}"
            query.fault(f"no right to read {table} ({error.came})", remedy)
    return query.finding()


def _check_table(uri: str, rows: PlatformRows, user: str) -> Finding:
    contract, table = rows.contract, rows.reader.table
    schema = table.rpartition(".")[0]
    with checking(f"database: {table}") as grants:
        with snapshot(uri) as source:
            columns = source.columns(table)
            if not columns:
                grants.fault(
                    "no such table", f"create it, or grant usage on schema {schema} to {user};"
                )
                return grants.finding()
            present = check_columns(contract, columns, table)
            asked = ", ".join(
                f"has_column_privilege('{table}', '{name}', 'select')" for name in present
            )
            source.cursor.execute(f"select {asked}")
            allowed = source.cursor.fetchall()[0]
            source.cursor.execute(_INDEX.format(table=table))
            has_index = contract.kind == "reference" or source.cursor.fetchall()[0][0]
        grants.text = f"{len(present)} columns can be read"
        if not has_index:
            index = f"create index concurrently on {table} (updated_at);"
            grants.text += f"; no index on updated_at, so each hour reads it whole: {index}"
        if closed := [name for name, is_open in zip(present, allowed, strict=True) if not is_open]:
            remedy = f"grant select ({', '.join(closed)}) on {table} to {user};"
            grants.fault(f"no right to read {', '.join(closed)}", remedy)
    return grants.finding()
