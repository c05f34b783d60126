"""Find lines that are in more than one file of an hour: a file was copied, or sent twice."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.chimera.contracts import PARTITION
from include.chimera.lake.staged.stage_rows import rows_of
from include.chimera.lake.store.duckdb_sessions import connect

if TYPE_CHECKING:
    from include.chimera.lake.staged.manifests import Batch
    from include.chimera.window import Run

logger = logging.getLogger(__name__)
# Lines are compared by hash. If there are many, only those with the lowest hashes: this samples the
# same lines of each file, so the share is unbiased and memory is bounded.
_COMPARED = 500_000


def warn_of_overlaps(run: Run, batch: Batch) -> None:
    """Warn, by hour and file, of the share of lines that are in other files too.

    They stay rows: two requests may log the same line, and we don't know which file is the copy.
    """
    if not batch.files:
        return
    share = min(_COMPARED / max(sum(file.rows for file in batch.files), 1), 1.0)
    below = f"{min(int(share * 16**8), 16**8 - 1):08x}g"  # at share 1, larger than any hash
    lines = f"select {PARTITION}, _file, _line_hash from ({rows_of(run, batch)})"
    with connect() as connection:
        found = connection.execute(
            f"select {PARTITION}, _file, avg(is_shared::int) as part from ("
            f"select *, min(_file) over same <> max(_file) over same as is_shared from ({lines}) "
            f"where _line_hash < '{below}' window same as (partition by {PARTITION}, _line_hash)"
            ") group by all having part > 0 order by all"
        ).fetchall()
    for hour, file, part in found:
        logger.warning(
            "%.1f %% of the lines of %s in hour %s stand in another file, too: each is a row; "
            "if it is a copy, move it out of the logs' folder and run the hour again",
            100 * part,
            file,
            hour,
        )
