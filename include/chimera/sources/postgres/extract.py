"""Extract a platform's mutable tables and its reference table of models.

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
from include.chimera.sources.postgres.platform_rows import PlatformRows, Selection
from include.chimera.sources.postgres.row_queries import (
    invisible,
    refusals,
    selection,
    unfit,
)
from include.chimera.sources.postgres.sessions import SourceSnapshot, snapshot
from include.chimera.sources.row_versions import typed

if TYPE_CHECKING:
    from include.chimera.profiles.chosen import Intake
    from include.chimera.window import Run

logger = logging.getLogger(__name__)


def extract_table(intake: Intake, uri: str, run: Run) -> Batch:
    """Stage a table for a run's window, by the contract's kind.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    rows = PlatformRows.of(intake)
    if intake.contract.kind == "reference":
        return extract_reference(rows, uri, run)
    return extract_versions(rows, uri, run)


def extract_versions(rows: PlatformRows, uri: str, run: Run) -> Batch:
    """Stage the rows of a mutable table that changed in the run's window.

    Read rows with updated_at in
    [min(watermark - overlap, window start), min(safe bound, window end)); the overlap is at least
    the time that a platform's rows may take to arrive. Refuse rows with a value
    that the contract's type can't hold, and rows that no window can ever see (updated_at null or
    infinite), the latter once and not in each run.

    Args:
        rows: What is read for a table of kind `versions`.
        uri: libpq URI of the platform's database.
        run: The run, whose window limits what is read.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    contract = rows.contract
    batch = Batch(contract.name, draw_token(contract.name))
    fault_point("extract.start")
    lower = _lower_bound(rows, run)
    with snapshot(uri) as source:
        upper = min(source.safe_bound, run.window.end)
        batch = replace(
            batch,
            watermark=int(upper.timestamp() * 1_000_000),
            held_back=_held_back(rows, run, source, upper),
        )
        staged = stage_selected(run, batch, rows, source, rows.updated_in((lower, upper)))
    if staged.held_back:
        logger.warning("%s: %s", contract.name, staged.held_back)
    logger.info("staged %s rows of %s in [%s, %s)", staged.rows_read, contract.name, lower, upper)
    return staged


def extract_reference(rows: PlatformRows, uri: str, run: Run) -> Batch:
    """Stage a whole reference table.

    Raises:
        SourceUnavailableError: The database can't be reached, or the connection broke.
        ContractError: The source's columns changed; nothing is staged.
    """
    name = rows.contract.name
    batch = Batch(name, draw_token(name))
    with snapshot(uri) as source:
        return stage_selected(run, batch, rows, source, Selection(rows.between()))


def stage_selected(
    run: Run, batch: Batch, rows: PlatformRows, source: SourceSnapshot, selected: Selection
) -> Batch:
    """Stage some rows of a table, and refuse those that don't fit the lake.

    Args:
        run: The run that reads.
        batch: What is known of the batch so far.
        rows: What is read.
        source: The snapshot in which it is read.
        selected: Which of the rows.

    Raises:
        SourceUnavailableError: The connection broke, or a statement timed out.
        ContractError: The source's columns changed; nothing is staged.
    """
    contract, present = rows.contract, rows.present(source)
    place, inside = selected.place, selected.inside
    batch = replace(batch, is_distinct=rows.are_distinct(source))
    unfit_rows = unfit(contract, present)
    wanted = f"{inside} and not ({unfit_rows})"
    refused = f"({inside} and ({unfit_rows}))"
    if contract.kind == "versions":
        refused = f"{refused} or {invisible()}"
    return stage_rows(
        run,
        batch,
        source.stream(f"{selection(contract, present, place)} where {wanted}"),
        query=typed(contract),
        refused=lambda _: source.stream(refusals(contract, present, place, refused)),
        is_met_again=True,
        is_rowwise=True,
    )


def _held_back(
    rows: PlatformRows, run: Run, source: SourceSnapshot, upper: datetime
) -> HeldBack | None:
    """Return which of the window's rows open transactions hold back; None: no rows."""
    end = run.window.end
    began = [since for since in source.open_since if since < end]
    if upper >= end or not (began or source.is_blind):
        return None
    behind = rows.updated_in((upper, end))
    found = source.count(behind.place, behind.inside)
    since = min(began, default=upper).astimezone(UTC).isoformat(timespec="seconds")
    return HeldBack(found, len(began), since) if found else None


def _lower_bound(rows: PlatformRows, run: Run) -> datetime:
    table = open_table(rows.contract.name)
    mark = table.transaction_version(WATERMARK) if table else None
    if mark is None or not run.moves_watermark:
        return run.window.start
    seconds = max(get_settings().overlap_minutes * 60, rows.reader.flush_seconds)
    overlap = timedelta(seconds=seconds)
    return min(datetime.fromtimestamp(mark / 1_000_000, UTC) - overlap, run.window.start)
