"""Extract the application's mutable tables and its reference table of models.

Rows stream as Arrow batches through ADBC, in one REPEATABLE READ READ ONLY snapshot.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.chimera.fault_points import fault_point
from include.chimera.lake.delta.tables import open_table
from include.chimera.lake.publish.bronze_publisher import WATERMARK
from include.chimera.lake.staged.fencing_tokens import draw_token
from include.chimera.lake.staged.held_back import HeldBack
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import stage_rows
from include.chimera.settings import get_settings
from include.chimera.sources.postgres.column_check import check_columns
from include.chimera.sources.postgres.row_queries import (
    invisible,
    refusals,
    selection,
    typed,
    unfit,
)
from include.chimera.sources.postgres.sessions import SourceSnapshot, snapshot

if TYPE_CHECKING:
    from include.chimera.contracts import Contract
    from include.chimera.window import Run

logger = logging.getLogger(__name__)


def extract_table(contract: Contract, uri: str, run: Run) -> Batch:
    """Stage a table for a run's window, by the contract's kind.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    if contract.kind == "reference":
        return extract_reference(contract, uri, run)
    return extract_versions(contract, uri, run)


def extract_versions(contract: Contract, uri: str, run: Run) -> Batch:
    """Stage the rows of a mutable table that changed in the run's window.

    Read rows with updated_at in
    [min(watermark - overlap, window start), min(safe bound, window end)). Refuse rows with a value
    that the contract's type can't hold, and rows that no window can ever see (updated_at null or
    infinite), the latter once and not in each run.

    Args:
        contract: A table of kind `versions`.
        uri: libpq URI of the application's database.
        run: The run, whose window limits what is read.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    batch = Batch(contract.name, draw_token(contract.name))
    fault_point("extract.start")
    lower = _lower_bound(contract, run)
    with snapshot(uri) as source:
        upper = min(source.safe_bound, run.window.end)
        inside = f"(updated_at >= '{lower.isoformat()}' and updated_at < '{upper.isoformat()}')"
        batch = replace(
            batch,
            watermark=int(upper.timestamp() * 1_000_000),
            held_back=_held_back(contract, run, source, upper),
        )
        staged = _stage(run, batch, contract, source, inside)
    if staged.held_back:
        logger.warning("%s: %s", contract.name, staged.held_back)
    logger.info("staged %s rows of %s in [%s, %s)", staged.rows_read, contract.name, lower, upper)
    return staged


def extract_reference(contract: Contract, uri: str, run: Run) -> Batch:
    """Stage a whole reference table.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    batch = Batch(contract.name, draw_token(contract.name))
    with snapshot(uri) as source:
        return _stage(run, batch, contract, source, "true")


def _stage(
    run: Run, batch: Batch, contract: Contract, source: SourceSnapshot, inside: str
) -> Batch:
    table = f"app.{contract.table}"
    present = check_columns(contract, source.columns(table), table)
    batch = replace(batch, is_distinct=source.has_unique_key(table, contract.key))
    unfit_rows = unfit(contract, present)
    wanted = f"{inside} and not ({unfit_rows})"
    refused = f"({inside} and ({unfit_rows}))"
    if contract.kind == "versions":
        refused = f"{refused} or {invisible()}"
    return stage_rows(
        run,
        batch,
        source.stream(f"{selection(contract, present)} where {wanted}"),
        query=typed(contract),
        refused=lambda: source.stream(refusals(contract, present, refused)),
        is_met_again=True,
        is_rowwise=True,
    )


def _held_back(
    contract: Contract, run: Run, source: SourceSnapshot, upper: datetime
) -> HeldBack | None:
    """Return which of the window's rows open transactions hold back; None: no rows."""
    end = run.window.end
    began = [since for since in source.open_since if since < end]
    if upper >= end or not (began or source.is_blind):
        return None
    behind = f"updated_at >= '{upper.isoformat()}' and updated_at < '{end.isoformat()}'"
    rows = source.count(f"app.{contract.table}", behind)
    since = min(began, default=upper).astimezone(UTC).isoformat(timespec="seconds")
    return HeldBack(rows, len(began), since) if rows else None


def _lower_bound(contract: Contract, run: Run) -> datetime:
    table = open_table(contract.name)
    mark = table.transaction_version(WATERMARK) if table else None
    if mark is None or not run.moves_watermark:
        return run.window.start
    overlap = timedelta(minutes=get_settings().overlap_minutes)
    return min(datetime.fromtimestamp(mark / 1_000_000, UTC) - overlap, run.window.start)
