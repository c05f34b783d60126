"""A row's hash tells its values apart, and is the same as before the contract had more columns."""

import duckdb
import pyarrow as pa

from include.chimera.contracts import EVALUATIONS
from include.chimera.sources.row_versions import typed

# Of a row that PostgreSQL gave before the contract had columns of reports (2026-11-29).
BEFORE = "75cd065f7f98451f6c432ff4a74fbc40"  # pragma: allowlist secret - a row's hash
ROW = {
    "evaluation_id": "e1",
    "created_at": "2026-01-01 00:00:00+00",
    "updated_at": "2026-01-01 00:00:01+00",
    "framework": "garak",
    "technique": "dan",
    "iterations": 3,
    "successes": 1,
    "status": "completed",
}


def hash_of(**columns: object) -> str:
    """Return the hash of a row with these values."""
    row = {**dict.fromkeys(EVALUATIONS.source_columns), **ROW, **columns}
    deleted = bool(row.pop("gone", False))
    source = pa.Table.from_pylist([{**row, "is_gone": deleted}])
    with duckdb.connect() as connection:
        connection.register("source", source)
        found = connection.execute(
            f"select _row_hash from ({typed(EVALUATIONS, deleted='is_gone')})"
        ).fetchone()
    return str(found[0]) if found else ""


def test_row_without_new_columns_has_the_hash_that_it_had() -> None:
    """Else each overlap after an upgrade would store its rows again."""
    assert hash_of() == BEFORE


def test_each_new_column_changes_the_hash() -> None:
    """By its name, too: the same value in another column is another row."""
    rows = [{"passes": 1}, {"errors": 1}, {"score": 1.0}, {"report_file": "1"}, {"gone": True}]
    assert len({hash_of(**row) for row in rows} | {hash_of()}) == 6
