"""Publish behind a bronze gate: bad rows to the dead letters, then good rows to the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.chimera.contracts import EVALUATIONS
from include.chimera.fault_points import fault_point
from include.chimera.lake.dead_letters.letters import append_letters, letters_query, settle_files
from include.chimera.lake.publish.bronze_publisher import Publisher
from include.chimera.lake.staged.stage_rows import refusals_of, rows_of
from include.chimera.quality.rules.good_and_bad_rows import bad_rows, good_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duckdb import DuckDBPyConnection

    from include.chimera.lake.staged.manifests import Batch
    from include.chimera.lake.staged.publications import Publication
    from include.chimera.window import Run


def publish_rows(
    connection: DuckDBPyConnection,
    batch: Batch,
    run: Run,
    *,
    rows_refused: int,
    notes: Mapping[str, str] | None = None,
) -> Publication:
    """Append the batch's refused records to the dead letters, then commit its good rows.

    Args:
        connection: DuckDB session.
        batch: A staged attempt.
        run: The DAG run.
        rows_refused: Count of unparsable records plus rows that break a critical row rule.
        notes: Extra commit metadata.

    Raises:
        CountError: The row counts don't add up; nothing is committed.
        ShrinkError: An hour would lose rows and the batch does not allow it.
        CommitConflictError: Every attempt lost to another writer.
        VerificationError: The commit differs from what was staged.
    """
    rows = good = rows_of(run, batch)
    refused = {"extract": refusals_of(run, batch)}
    # If the split refuses no row, spare each scan from evaluating its predicates again.
    if rows_refused != batch.rows_unparsed:
        refused["gate"], good = bad_rows(batch.table, rows), good_rows(batch.table, rows)
    for stage, records in refused.items():
        append_letters(connection, letters_query(records, batch.table, stage, run), run)
    fault_point("publish.letters_written")
    published = Publisher(connection, batch, good, run, notes or {}).publish(rows_refused)
    if batch.table == EVALUATIONS.name:  # the one table whose rows name the file they are all of
        settle_files(connection, batch.table, good, run)
    return published
