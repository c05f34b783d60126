"""Tables of the lake, whoever wrote their files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction

from include.chimera.lake.delta.tables import row_count


def test_rows_of_files_without_statistics_are_counted(tmp_path: Path) -> None:
    """Other writers may omit statistics: the count is unknown, not zero, and no error."""
    rows = pa.table({"id": pa.array([1, 2, 3])})
    schema = Schema.from_arrow(rows.schema)
    table = DeltaTable.create(tmp_path, schema)
    for name, stats in (("a", "{}"), ("b", '{"numRecords": 3}')):
        pq.write_table(rows, tmp_path / name)
        size = (tmp_path / name).stat().st_size
        table.create_write_transaction(
            [AddAction(name, size, {}, 1, True, stats)], "append", schema
        )
    assert row_count(DeltaTable(tmp_path)) == 6
