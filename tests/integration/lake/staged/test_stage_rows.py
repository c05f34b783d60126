"""Rows that a query reads more than once are staged in memory that does not grow with them."""

from datetime import timedelta

import pyarrow as pa
import pytest

from include.chimera.contracts import EVALUATIONS
from include.chimera.lake.staged.manifests import Batch
from include.chimera.lake.staged.stage_rows import Prepared, row_batches, stage_rows
from include.chimera.settings import get_settings
from include.chimera.sources.row_versions import completed, typed, with_first_times
from tests.builders import HOUR, run_of

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lake")]
ROWS, TEXT = 400_000, "a judge " * 8
SCHEMA = pa.schema(
    [
        *(EVALUATIONS.schema.field(name) for name in ("evaluation_id", "created_at", "updated_at")),
        pa.field("judge", pa.string()),
    ]
)


def test_rows_that_are_larger_than_the_memory_are_read_twice(monkeypatch):
    """Half of the keys come twice, and get their earlier time."""
    monkeypatch.setenv("CHIMERA_DUCKDB_MEMORY_LIMIT", "100MB")
    get_settings.cache_clear()
    rows = (
        (
            f"e{number // 2 if number < ROWS // 2 else number}",
            HOUR + timedelta(milliseconds=number),
            HOUR,
            f"{number}{TEXT}",
        )
        for number in range(ROWS)
    )
    told = completed(EVALUATIONS, f"from ({with_first_times(EVALUATIONS)})")
    stream = pa.RecordBatchReader.from_batches(SCHEMA, row_batches(SCHEMA, rows))
    query = typed(EVALUATIONS, rows=f"({told})")
    batch = stage_rows(
        run_of(), Batch(EVALUATIONS.name, 1), stream, query=query, prepared=Prepared()
    )
    assert batch.rows_read == ROWS
    assert batch.bounds is not None
    assert batch.bounds[1] == "2026-01-01 05:06:39.999+00"
