"""The application's database: mutable tables and the reference table of models.

Rows stream as Arrow batches through ADBC, in one REPEATABLE READ READ ONLY snapshot.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import adbc_driver_manager
from adbc_driver_postgresql import dbapi

from include.chimera.contracts import MODELS, PARTITION, Contract
from include.chimera.errors import SourceUnavailableError
from include.chimera.lake.publish import WATERMARK
from include.chimera.lake.stage import Batch
from include.chimera.lake.staging import stage_rows
from include.chimera.lake.tables import open_table
from include.chimera.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.chimera.window import Run

logger = logging.getLogger(__name__)

# A transaction that began earlier may commit rows with an older updated_at than rows already seen:
# reading stops before the oldest transaction that is still open. Measured on PostgreSQL 15 and 18.
_SAFE_BOUND = """
    select least(
        clock_timestamp() - interval '5 seconds',
        (
            select min(xact_start) from pg_stat_activity
            where pid <> pg_backend_pid() and datname = current_database()
        ),
        (select min(prepared) - interval '15 minutes' from pg_prepared_xacts)
    )
"""
# What Arrow has no type for travels as text; DuckDB gives it the contract's type.
_AS_TEXT = ("_id", "cost_usd")
_STATEMENT_TIMEOUT_MS = 240_000


@contextmanager
def _session(uri: str) -> Iterator[dbapi.Cursor]:
    """Open one read-only session.

    Raises:
        SourceUnavailableError: The database can't be reached, or broke off.
    """
    options = urlencode(
        {
            "application_name": "chimera_extract",
            "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} "
            "-c default_transaction_read_only=on -c TimeZone=UTC",
        }
    ).replace("+", "%20")
    separator = "&" if "?" in uri else "?"
    try:
        with (
            closing(dbapi.connect(f"{uri}{separator}{options}", autocommit=True)) as connection,
            closing(connection.cursor()) as cursor,
        ):
            yield cursor
    except adbc_driver_manager.OperationalError as error:
        raise SourceUnavailableError(
            expected="an answer from the application's database",
            came=f"{type(error).__name__} ({error.sqlstate})",
            where="Airflow connection app_db",
            remedy="check that the server is up and that the connection's host and login are right",
        ) from error


def extract_versions(contract: Contract, uri: str, run: Run) -> Batch:
    """Stage the rows of a mutable table that changed in the run's window.

    Read is updated_at in [min(watermark - overlap, window start), min(safe bound, window end)).

    Args:
        contract: A table of kind `versions`.
        uri: libpq URI of the application's database.
        run: Its window bounds what is read.

    Raises:
        SourceUnavailableError: The database can't be reached, or broke off.
    """
    lower = _lower_bound(contract, run)
    with _session(uri) as cursor:
        cursor.execute(_SAFE_BOUND)
        (safe,) = cursor.fetchone() or (None,)
        upper = min(safe or datetime.now(UTC), run.window.end)
        cursor.execute("begin isolation level repeatable read read only")
        cursor.execute(
            f"{_select(contract)} where updated_at >= '{lower.isoformat()}' "
            f"and updated_at < '{upper.isoformat()}'"
        )
        batch = Batch(contract.name, 0, [], watermark=int(upper.timestamp() * 1_000_000))
        staged = stage_rows(run, batch, cursor.fetch_record_batch(), _typed(contract))
    logger.info("staged %s rows of %s in [%s, %s)", staged.rows_read, contract.name, lower, upper)
    return staged


def extract_models(uri: str, run: Run) -> Batch:
    """Stage the whole table of models.

    Raises:
        SourceUnavailableError: The database can't be reached, or broke off.
    """
    with _session(uri) as cursor:
        cursor.execute(_select(MODELS))
        return stage_rows(
            run, Batch(MODELS.name, 0, []), cursor.fetch_record_batch(), _typed(MODELS)
        )


def _lower_bound(contract: Contract, run: Run) -> datetime:
    table = open_table(contract.name)
    mark = table.transaction_version(WATERMARK) if table else None
    if mark is None or not run.moves_watermark:
        return run.window.start
    overlap = timedelta(minutes=get_settings().overlap_minutes)
    return min(datetime.fromtimestamp(mark / 1_000_000, UTC) - overlap, run.window.start)


def _select(contract: Contract) -> str:
    columns = (
        f"{name}::text as {name}" if name.endswith(_AS_TEXT) else name
        for name in contract.source_columns
    )
    return f"select {', '.join(columns)} from app.{contract.table}"


def _typed(contract: Contract) -> str:
    """Return the DuckDB query that gives the source's rows the contract's types and lineage."""
    columns = ", ".join(contract.source_columns)
    row = ", ".join(f"{name} := {name}" for name in contract.source_columns)
    typed = columns.replace("cost_usd", "cast(cost_usd as decimal(18, 9)) as cost_usd")
    partition = (
        f", strftime(updated_at, '%Y%m%dT%H') as {PARTITION}" if contract.partition_by else ""
    )
    return (
        f"select {columns}, md5(cast(to_json(struct_pack({row})) as varchar)) as _row_hash"
        f"{partition} from (select {typed} from source)"
    )
